/** Whether this machine has what the cuda backend needs, and why not where it has not: tests on a GPU say so. */
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

/** Asked once a test file. */
export const cuda = await tryCuda();
if (!cuda.usable) console.info(`skipped, no usable GPU: ${cuda.reason}`);

/** The cuda backend, every launch checked. */
export function useCuda(precision: CudaOptions['precision'], deterministic = false): Promise<CudaBackend> {
  return startCuda({ precision, deterministic, synchronous: true });
}
