/** The wasm backend as the program starts it. */
import { cpuName } from '../../machine.js';
import { type BackendStarter, HOST_ONLY } from '../starter.js';
import { startWasm } from './start.js';

export const wasmStarter: BackendStarter = {
  start: async (requested) => {
    if (requested === 'bf16') throw new Error('it computes in fp32 only; bf16 needs cuda or tensorflow');
    await startWasm();
    return { device: cpuName(), precision: 'fp32', ...HOST_ONLY };
  },
  advice: () => [],
  parts: () => [],
};
