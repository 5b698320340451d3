/**
 * RoutedGather: the tokens that a router selects, and all that the selected ones give back: the rows' gradient and their
 * router weights' in one pass over these rows. x itself is not saved, so that what the block adds may take its place.
 */
import { add, expandDims, matMul, mul, reshape, squeeze, type Tensor } from '@tensorflow/tfjs-core';
import { composedGather, gatherTokensKernel, scatterTokensKernel } from './gather-tokens.js';
import { defineKernel } from './kernel.js';
import type { Parameter, Tape } from './tape.js';

export interface RoutedGatherGradInputs extends Record<string, Tensor | undefined> {
  /** [B, T]; read at the indices alone. */
  dr: Tensor;
  /** [B, k, D] */
  drows: Tensor;
  /** x at the indices [B, k, D]. */
  rows: Tensor;
  /** [B, k] int32; T marks padding. */
  indices: Tensor;
  /** [1, D] */
  weight: Tensor;
  /** The gradient of x so far [B, T, D]; it is added to and must not be used afterwards. */
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
 * x's rows at the indices, where r = x·weight ([B, T]) has chosen them. x [B, T, D], weight [1, D], indices [B, k] int32 →
 * [B, k, D]. Only the selected tokens' r may get a gradient; see recordRouterLogits for others.
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
