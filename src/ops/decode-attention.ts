/** DecodeAttention: one new token of each of b sequences attends to its sequence's cached keys and to itself. */
import {
  add,
  cast,
  expandDims,
  gather,
  lessEqual,
  matMul,
  mul,
  range,
  reshape,
  slice,
  softmax,
  sub,
  sum,
  type Tensor,
  transpose,
} from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import { oneHot } from './one-hot.js';

export interface DecodeAttentionInputs extends Record<string, Tensor> {
  /** q, k and v of the new tokens, q and k rotated: [1, b, 3D]. */
  qkv: Tensor;
  /** [S, L, 2D]: for each cached token the keys of all heads, then the values. */
  cache: Tensor;
  /** The sequence of each new token: [b] int32, distinct. */
  rows: Tensor;
  /** Cached tokens of these sequences, each less than L: [b] int32. */
  lengths: Tensor;
}

/**
 * → [out [1, b, D], cache with the new tokens' keys and values appended]. The input cache is consumed: a backend may
 * overwrite it. Rows of the cache beyond a sequence's length may hold any finite value.
 */
export const decodeAttentionKernel = defineKernel(
  'DecodeAttention',
  (
    { qkv, cache, rows, lengths }: DecodeAttentionInputs,
    { heads }: { heads: number },
  ): [out: Tensor, cache: Tensor] => {
    const [sequences, slots, width] = cache.shape as [number, number, number];
    const [D, b] = [width / 2, rows.shape[0]];
    const size = D / heads;
    const [q, added] = [slice(qkv, [0, 0, 0], [1, b, D]), slice(qkv, [0, 0, D], [1, b, width])];
    const hot = oneHot(add(mul(rows, slots), lengths), sequences * slots); // [b, S·L]
    const untouched = reshape(sub(1, sum(hot, 0)), [sequences, slots, 1]);
    const written = matMul(hot, reshape(added, [b, width]), true, false);
    const next = add(mul(cache, untouched), reshape(written, cache.shape));
    const own = reshape(gather(next, rows), [b, slots, 2, heads, size]);
    const byHead = (which: number) =>
      reshape(transpose(slice(own, [0, 0, which, 0, 0], [b, slots, 1, heads, size]), [0, 3, 2, 1, 4]), [
        b,
        heads,
        slots,
        size,
      ]);
    const scores = mul(matMul(reshape(q, [b, heads, 1, size]), byHead(0), false, true), 1 / Math.sqrt(size));
    const visible = cast(lessEqual(range(0, slots, 1, 'int32'), expandDims(lengths, 1)), 'float32'); // [b, L]
    const mask = mul(sub(visible, 1), 1e30);
    const weights = softmax(add(scores, reshape(mask, [b, 1, 1, slots])));
    return [reshape(matMul(weights, byHead(1)), [1, b, D]), next];
  },
);
