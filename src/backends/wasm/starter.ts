/** The entry of the wasm backend: how the program starts it. */
import { cpuName } from '../../machine.js';
import { type BackendStarter, HOST_ONLY } from '../starter.js';
import { startWasm } from './start.js';

export const wasmStarter: BackendStarter = {
  start: async (requested) => {
    if (requested !== 'auto' && requested !== 'fp32')
      throw new Error(`it computes in fp32 only; ${requested} needs cuda or tensorflow`);
    await startWasm();
    return { device: cpuName(), precision: 'fp32', ...HOST_ONLY };
  },
  advice: () => [],
  libraries: () => [],
};
