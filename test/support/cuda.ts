/** Whether the cuda backend starts on this machine. If not, tests that need a GPU are skipped and the reason is printed. */
import type { CudaBackend } from '../../src/backends/cuda/backend.js';
import { type CudaOptions, startCuda } from '../../src/backends/cuda/start.js';
import { messageOf } from '../../src/errors.js';

async function tryCuda(): Promise<{ usable: boolean; reason: string }> {
  try {
    await startCuda({ precision: 'fp32' });
    return { usable: true, reason: '' };
  } catch (error) {
    return { usable: false, reason: messageOf(error) };
  }
}

/** Determined once per test file. */
export const cuda = await tryCuda();
if (!cuda.usable) console.info(`skipped: no usable GPU: ${cuda.reason}`);

/** Starts the cuda backend with a check after every launch. */
export function useCuda(precision: CudaOptions['precision'], deterministic = false): Promise<CudaBackend> {
  return startCuda({ precision, deterministic, synchronous: true });
}
