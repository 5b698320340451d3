/**
 * GatherTokens: the selected tokens of each sequence, in order; ScatterTokens, its gradient, adds rows at their places.
 * An index of T marks padding: it reads zeros and writes nothing.
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
import { hotRows } from './one-hot.js';
import type { Tape } from './tape.js';

export interface ScatterTokensInputs extends Record<string, Tensor | undefined> {
  rows: Tensor;
  indices: Tensor;
  /** The gradient so far [B, T, D]; it is added to and must not be used afterwards. */
  gradAccum: Tensor | undefined;
}

/** Rows `indices` [B, k] of each sequence of x [B, T, D], zeros for an index of T: [B, k, D]. In tfjs' own ops. */
export function composedGather(x: Tensor, indices: Tensor): Tensor {
  const [batch, length, width] = x.shape as [number, number, number];
  const padded = reshape(concat([x, zeros([batch, 1, width])], 1), [batch * (length + 1), width]);
  const offsets = reshape(mul(range(0, batch, 1, 'int32'), scalar(length + 1, 'int32')), [batch, 1]);
  return gather(padded, add(indices, offsets)) as Tensor;
}

/**
 * For each of T positions, the slot among the k that holds it, or k for none: [B, T] int32. Turning the scatter into a
 * gather makes it exact and deterministic on every backend.
 */
export function slotOfPosition(indices: Tensor, length: number): Tensor {
  const [batch, k] = indices.shape as [number, number];
  const hot = hotRows(indices, length, 'int32');
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

/** {rows [B, k, D], indices [B, k] int32, gradAccum? [B, T, D]} → [y [B, T, D]]: rows at their positions, added to gradAccum or zeros */
export const scatterTokensKernel = defineKernel(
  'ScatterTokens',
  ({ rows, indices, gradAccum }: ScatterTokensInputs, { length }: { length: number }): [Tensor] => {
    const scattered = composedGather(rows, slotOfPosition(indices, length));
    return [gradAccum === undefined ? scattered : add(gradAccum, scattered)];
  },
);

/** x's rows at the indices. x [B, T, D], indices [B, k] int32 → [B, k, D] */
export function gatherTokens(tape: Tape | null, x: Tensor, indices: Tensor): Tensor {
  const [rows] = gatherTokensKernel({ x, indices }, {});
  const length = x.shape[1] as number;
  tape?.record([rows], [x], [indices], ([d], inputs) =>
    scatterTokensKernel({ rows: d, indices, gradAccum: inputs.gradAccum(0) }, { length }),
  );
  return rows;
}
