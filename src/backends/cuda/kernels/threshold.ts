/** The running quantile of router weights: threshold.cu. */
import { routedThresholdKernel, runningQuantileKernel } from '../../../ops/running-quantile.js';
import { cudaKernel } from '../driver/call.js';
import { address, float } from '../driver/kernel-library.js';
import { BYTES_PER_ELEMENT } from '../driver/storage.js';
import { THREADS, WARP } from './launch-shapes.js';

const routedThreshold = cudaKernel(
  routedThresholdKernel,
  (call, { r, mask, thresholds }, { block, first }) => {
    const [sequences, length] = r.shape as [number, number];
    const columns = thresholds.shape[1] as number;
    const updated = call.reuse(thresholds, 'float32');
    call.launch('threshold', 'routedThreshold', { grid: sequences, block: THREADS }, [
      address(call.float(r)),
      address(call.float(mask)),
      address(call.at(updated) + BYTES_PER_ELEMENT.float32 * (block * columns + first)),
      length,
    ]);
    return [updated];
  },
);

const runningQuantile = cudaKernel(runningQuantileKernel, (call, { thresholds, norm, state }, { decay }) => {
  const [blocks, sequences] = thresholds.shape as [number, number];
  const updated = call.reuse(state, 'float32');
  call.launch('threshold', 'runningQuantile', { grid: blocks, block: WARP }, [
    address(call.float(thresholds)),
    address(call.float(norm)),
    address(call.at(updated)),
    blocks,
    sequences,
    float(decay),
  ]);
  return [updated];
});

export const thresholdKernels = [routedThreshold, runningQuantile];
