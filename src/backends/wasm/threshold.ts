/** The running quantile of router weights on wasm: one pass over the weights, updates in place. */
import { routedThresholdKernel, runningQuantileKernel } from '../../ops/running-quantile.js';
import { wasmKernel } from './heap.js';

const routedThreshold = wasmKernel(
  routedThresholdKernel,
  (heap, { r, mask, thresholds }, { block, first }) => {
    const [sequences, length] = r.shape as [number, number];
    const updated = heap.reuse(thresholds);
    const [weights, selected, to] = [heap.floats(r), heap.floats(mask), heap.floats(updated)];
    for (let b = 0; b < sequences; b++) {
      let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
      for (let i = b * length; i < (b + 1) * length; i++) {
        const weight = weights[i] as number;
        if (selected[i] === 1) least = Math.min(least, weight);
        else most = Math.max(most, weight);
      }
      to[block * (thresholds.shape[1] as number) + first + b] = 0.5 * (least + most);
    }
    return [updated];
  },
);

const runningQuantile = wasmKernel(runningQuantileKernel, (heap, { thresholds, norm, state }, { decay }) => {
  const [blocks, sequences] = thresholds.shape as [number, number];
  const updated = heap.reuse(state);
  const to = heap.floats(updated);
  if (!Number.isFinite(heap.floats(norm)[0])) return [updated];
  const rows = heap.floats(thresholds);
  for (let block = 0; block < blocks; block++) {
    let sum = 0;
    for (let s = 0; s < sequences; s++) sum += rows[block * sequences + s] as number;
    to[block] = decay * (to[block] as number) + (1 - decay) * (sum / sequences);
  }
  to[blocks] = (to[blocks] as number) + 1;
  return [updated];
});

export const thresholdKernels = [routedThreshold, runningQuantile];
