/**
 * GatherTokens: rows_j = x[indices_j] in each sequence; ScatterTokens, its gradient, adds rows at their positions. An index of
 * T marks padding: it reads zeros and writes nothing.
 */
import {
  add,
  concat,
  gather,
  mul,
  range,
  reshape,
  scalar,
  sub,
  sum,
  type Tensor,
  tile,
  zeros,
} from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import { oneHot } from './one-hot.js';
import type { Tape } from './tape.js';

export interface ScatterTokensInputs extends Record<string, Tensor | undefined> {
  rows: Tensor;
  indices: Tensor;
  /** The accumulated gradient [B, T, D], which is consumed. */
  gradAccum: Tensor | undefined;
}

/** GatherTokens in tfjs' own ops: x [B, T, D], indices [B, k] → [B, k, D]. */
export function composedGather(x: Tensor, indices: Tensor): Tensor {
  const [batch, length, width] = x.shape as [number, number, number];
  const padded = reshape(concat([x, zeros([batch, 1, width])], 1), [batch * (length + 1), width]);
  const offsets = reshape(mul(range(0, batch, 1, 'int32'), scalar(length + 1, 'int32')), [batch, 1]);
  return gather(padded, add(indices, offsets));
}

/**
 * For each of T positions, the index j < k of the slot that holds it, or k if none does: [B, T] int32. A scatter written as a
 * gather is exact and deterministic on every backend.
 */
export function slotOfPosition(indices: Tensor, length: number): Tensor {
  const [batch, k] = indices.shape as [number, number];
  const hot = oneHot(indices, length, 'int32');
  const slots = tile(reshape(sub(range(0, k, 1, 'int32'), scalar(k, 'int32')), [1, k, 1]), [
    batch,
    1,
    length,
  ]);
  return add(sum(mul(hot, slots), 1), scalar(k, 'int32'));
}

/** {x [B, T, D], indices [B, k] int32} → [rows [B, k, D]] */
export const gatherTokensKernel = defineKernel(
  'GatherTokens',
  ({ x, indices }: { x: Tensor; indices: Tensor }, _: object): [Tensor] => [composedGather(x, indices)],
);

/** {rows [B, k, D], indices [B, k] int32, gradAccum? [B, T, D]} → [y [B, T, D] = gradAccum + rows at their positions] */
export const scatterTokensKernel = defineKernel(
  'ScatterTokens',
  ({ rows, indices, gradAccum }: ScatterTokensInputs, { length }: { length: number }): [Tensor] => {
    const scattered = composedGather(rows, slotOfPosition(indices, length));
    return [gradAccum === undefined ? scattered : add(gradAccum, scattered)];
  },
);

/** The rows of x at the indices. x [B, T, D], indices [B, k] int32 → [B, k, D] */
export function gatherTokens(tape: Tape | null, x: Tensor, indices: Tensor): Tensor {
  const [rows] = gatherTokensKernel({ x, indices }, {});
  const length = x.shape[1] as number;
  tape?.record([rows], [x], [indices], ([d], inputs) =>
    scatterTokensKernel({ rows: d, indices, gradAccum: inputs.gradAccum(0) }, { length }),
  );
  return rows;
}
