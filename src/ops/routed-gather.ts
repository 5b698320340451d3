/**
 * RoutedGather: gathers the tokens that a router selected; its gradient combines those of the rows and of their router weights
 * in one pass over the selected rows. x is not saved, so the block's output may be added to it in place.
 */
import { add, expandDims, matMul, mul, reshape, squeeze, type Tensor } from '@tensorflow/tfjs-core';
import { composedGather, gatherTokensKernel, scatterTokensKernel } from './gather-tokens.js';
import { defineKernel } from './kernel.js';
import type { Parameter, Tape } from './tape.js';

export interface RoutedGatherGradInputs extends Record<string, Tensor | undefined> {
  /** [B, T]; read only at the indices. */
  dr: Tensor;
  /** [B, k, D] */
  drows: Tensor;
  /** x at the indices [B, k, D]. */
  rows: Tensor;
  /** [B, k] int32; T marks padding. */
  indices: Tensor;
  /** [1, D] */
  weight: Tensor;
  /** The accumulated gradient of x [B, T, D], which is consumed. */
  gradAccum: Tensor | undefined;
}

/** → [dx [B, T, D] = gradAccum + drows + dr⊗w at the indices, dweight [1, D] = Σ dr·rows] */
export const routedGatherGradKernel = defineKernel(
  'RoutedGatherGrad',
  (
    { dr, drows, rows, indices, weight, gradAccum }: RoutedGatherGradInputs,
    _: object,
  ): [dx: Tensor, dweight: Tensor] => {
    const [length, width] = [dr.shape[1] as number, rows.shape[2] as number];
    const selected = composedGather(expandDims(dr, 2), indices); // [B, k, 1]
    const together = add(drows, mul(selected, reshape(weight, [1, 1, width]))) as Tensor;
    const [dx] = scatterTokensKernel({ rows: together, indices, gradAccum }, { length });
    const dweight = matMul(reshape(squeeze(selected, [2]), [1, -1]), reshape(rows, [-1, width]));
    return [dx, dweight];
  },
);

/**
 * The rows of x at the indices, which were selected by r = x·weight ([B, T]). x [B, T, D], weight [1, D], indices [B, k] int32
 * → [B, k, D]. Only r of the selected tokens may have a gradient; otherwise use recordRouterLogits.
 */
export function routedGather(
  tape: Tape | null,
  x: Tensor,
  r: Tensor,
  weight: Parameter,
  indices: Tensor,
): Tensor {
  const [rows] = gatherTokensKernel({ x, indices }, {});
  tape?.record([r, rows], [x, weight], [rows, indices], ([dr, drows], inputs) => {
    const { value } = weight;
    return routedGatherGradKernel(
      { dr, drows, rows, indices, weight: value, gradAccum: inputs.gradAccum(0) },
      {},
    );
  });
  return rows;
}
