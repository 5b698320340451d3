/** The entry of the cuda backend: how the program starts it. */
import type { BackendStarter } from '../starter.js';
import { peakBandwidth, peakFlops } from './driver/peak.js';
import { CudaRecorder } from './driver/recorder.js';
import { CudaDecodeLoops } from './kernels/decode.js';
import { cudaDetails, startCuda } from './start.js';

export const cudaStarter: BackendStarter = {
  start: async (requested, deterministic) => {
    const precision = requested === 'auto' ? 'bf16' : requested;
    const backend = await startCuda({ precision, deterministic });
    const { deviceName, multiprocessors } = backend.driver;
    return {
      device: deviceName,
      precision,
      peakMemoryBytes: () => backend.memoryUse().peak,
      memory: () => backend.driver.memoryInfo(),
      peakFlopsPerSecond: peakFlops(deviceName, precision, multiprocessors),
      peakBytesPerSecond: peakBandwidth(deviceName),
      recorder: new CudaRecorder(backend),
      decodeLoops: new CudaDecodeLoops(backend),
    };
  },
  advice: cudaDetails,
  libraries: cudaDetails,
};
