/** The entry of the tensorflow backend: how the program starts it. */
import { cpuName } from '../../machine.js';
import { type BackendStarter, HOST_ONLY } from '../starter.js';
import { installAdvice } from './advice.js';
import { gpuName } from './device.js';
import { startTensorflow } from './start.js';

export const tensorflowStarter: BackendStarter = {
  start: async (requested) => {
    const precision = requested === 'auto' ? 'fp32' : requested;
    const { onGpu } = await startTensorflow(precision);
    return { device: onGpu ? gpuName() : cpuName(), precision, ...HOST_ONLY };
  },
  advice: installAdvice,
  libraries: () => [],
};
