/** SelectTopK: the k tokens of each sequence with the largest router weights (Raposo et al. 2024, equation 1). No gradient. */
import { cast, reverse, sum, type Tensor, topk } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import { oneHot } from './one-hot.js';

/**
 * {r [B, T]} → [indices [B, k] int32, ascending, mask [B, T] float32: 1 for a selected token, else 0]. Among equal
 * weights the lower position is selected (as tfjs' topk does on every backend). A second topk sorts the indices.
 */
export const selectTopKKernel = defineKernel(
  'SelectTopK',
  ({ r }: { r: Tensor }, { k }: { k: number }): [indices: Tensor, mask: Tensor] => {
    const best = topk(r, k, true).indices;
    const descending = topk(cast(best, 'float32'), k, true).values;
    const indices = cast(reverse(descending, 1), 'int32');
    return [indices, sum(oneHot(indices, r.shape[1] as number), 1)];
  },
);

/** Expert-choice selection: the k largest r of each sequence, in ascending position. */
export function selectTopK(r: Tensor, k: number): { indices: Tensor; mask: Tensor } {
  const [indices, mask] = selectTopKKernel({ r }, { k });
  return { indices, mask };
}
