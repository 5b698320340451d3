/** SelectTopK: the k tokens of each sequence with the largest router weights; nothing to differentiate. */
import { cast, reverse, sum, type Tensor, topk } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import { hotRows } from './one-hot.js';

/**
 * {r [B, T]} → [indices [B, k] int32 ascending, mask [B, T] float32: 1 for the selected, else 0]. Equal weights: the
 * lower position first. (tfjs' topk breaks ties so on every backend; sorting the indices is a second topk.)
 */
export const selectTopKKernel = defineKernel(
  'SelectTopK',
  ({ r }: { r: Tensor }, { k }: { k: number }): [indices: Tensor, mask: Tensor] => {
    const best = topk(r, k, true).indices;
    const descending = topk(cast(best, 'float32'), k, true).values;
    const indices = cast(reverse(descending, 1), 'int32');
    return [indices, sum(hotRows(indices, r.shape[1] as number), 1)];
  },
);

/** Expert-choice selection (paper, section 3.2): for each sequence on its own, the k largest r, in ascending position. */
export function selectTopK(r: Tensor, k: number): { indices: Tensor; mask: Tensor } {
  const [indices, mask] = selectTopKKernel({ r }, { k });
  return { indices, mask };
}
