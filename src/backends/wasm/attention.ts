/**
 * Rotary and CausalAttention on wasm: one product for each head and block of queries, over only the keys that the block
 * attends to; softmax and its gradient loop over the causal part only.
 */
import type { Tensor } from '@tensorflow/tfjs-core';
import { causalAttentionGradKernel, causalAttentionKernel } from '../../ops/causal-attention.js';
import { rotaryGradKernel, rotaryKernel } from '../../ops/rotary.js';
import { scope } from '../../ops/scope.js';
import { exponential } from './exponential.js';
import { type Heap, product, transposeInto, wasmKernel } from './heap.js';

/** Queries in a block: enough for products at full speed, few enough to skip most of the masked half. */
const QUERY_BLOCK = 128;

/** Positions of q, k and v in packed rows [B, n, 3, H, K]. */
const [Q, K, V] = [0, 1, 2];

const rotary = wasmKernel(rotaryKernel, (heap, { qkv, table, positions }) => {
  const rotated = heap.reuse(qkv);
  rotate(heap, rotated, table, positions, 1);
  return [rotated];
});

const rotaryGrad = wasmKernel(rotaryGradKernel, (heap, { dqkv, table, positions }) => {
  const rotated = heap.reuse(dqkv);
  rotate(heap, rotated, table, positions, -1);
  return [rotated];
});

const causalAttention = wasmKernel(causalAttentionKernel, (heap, { qkv }, { heads }) => {
  const [batch, n, width] = qkv.shape as [number, number, number];
  const out = heap.make([batch, n, width / 3]);
  const logSumExp = heap.make([batch, heads, n]);
  const attention = { qkv, size: width / 3 / heads, out, logSumExp };
  for (let head = 0; head < batch * heads; head++) {
    for (let start = 0; start < n; start += QUERY_BLOCK) {
      scope(() => attend(heap, attention, head, start, Math.min(start + QUERY_BLOCK, n)));
    }
  }
  return [out, logSumExp];
});

const causalAttentionGrad = wasmKernel(
  causalAttentionGradKernel,
  (heap, { qkv, out, logSumExp, dout }, { heads }) => {
    const dqkv = heap.make(qkv.shape);
    heap.floats(dqkv).fill(0);
    const [batch, n, width] = qkv.shape as [number, number, number];
    const attention = { qkv, size: width / 3 / heads, out, logSumExp, dout, dqkv };
    for (let head = 0; head < batch * heads; head++) {
      for (let start = 0; start < n; start += QUERY_BLOCK) {
        scope(() => attendBack(heap, attention, head, start, Math.min(start + QUERY_BLOCK, n)));
      }
    }
    return [dqkv];
  },
);

/** Rotates q and k of packed rows [B, n, 3, H, K] by the angles of their positions, in place. */
function rotate(
  heap: Heap,
  packed: Tensor,
  table: Tensor,
  positions: Tensor | undefined,
  direction: 1 | -1,
): void {
  const [batch, n, width] = packed.shape as [number, number, number];
  const size = table.shape[1] as number;
  const half = size / 2;
  const [x, angles] = [heap.floats(packed), heap.floats(table)];
  const at = positions === undefined ? null : heap.ints(positions);
  for (let token = 0; token < batch * n; token++) {
    const angle = (at === null ? token % n : (at[token] as number)) * size;
    for (let first = token * width; first < token * width + (2 * width) / 3; first += size) {
      for (let i = 0; i < half; i++) {
        const cos = angles[angle + i] as number;
        const sin = direction * (angles[angle + half + i] as number);
        const [a, b] = [x[first + i] as number, x[first + half + i] as number];
        x[first + i] = a * cos - b * sin;
        x[first + half + i] = b * cos + a * sin;
      }
    }
  }
}

/** Rows start..end of one head of q, k or v as a matrix, or its transpose. packed [B, n, 3, H, K] */
function headRows(
  heap: Heap,
  { qkv, size }: Attention,
  which: number,
  head: number,
  start: number,
  end: number,
  transpose = false,
): Tensor {
  const [, n, width] = qkv.shape as [number, number, number];
  const matrix = heap.make(transpose ? [size, end - start] : [end - start, size]);
  const first = packedOffset(n, width, size, head, which) + start * width;
  const [from, to] = [heap.floats(qkv), heap.floats(matrix)];
  if (transpose) transposeInto(from.subarray(first), to, end - start, size, width);
  else copyRows(from, first, width, to, size);
  return matrix;
}

/** Rows start..end of one head of a tensor with merged heads, [B, n, H·K], as a matrix. */
function mergedRows(heap: Heap, x: Tensor, size: number, head: number, start: number, end: number): Tensor {
  const [, n, width] = x.shape as [number, number, number];
  const matrix = heap.make([end - start, size]);
  copyRows(
    heap.floats(x),
    mergedOffset(n, width, size, head) + start * width,
    width,
    heap.floats(matrix),
    size,
  );
  return matrix;
}

/** Copies rows of `size` elements, `pitch` apart, starting at `first`, into a contiguous matrix. */
function copyRows(from: Float32Array, first: number, pitch: number, to: Float32Array, size: number): void {
  for (let at = 0, row = first; at < to.length; at += size, row += pitch) {
    for (let i = 0; i < size; i++) to[at + i] = from[row + i] as number;
  }
}

/** Offset of row 0 of a head in [B, n, H·K]; consecutive rows are `width` apart. */
function mergedOffset(n: number, width: number, size: number, head: number): number {
  const heads = width / size;
  return Math.floor(head / heads) * n * width + (head % heads) * size;
}

/** Offset of row 0 of a head of q, k or v in [B, n, 3, H, K]; consecutive rows are `width` apart. */
function packedOffset(n: number, width: number, size: number, head: number, which: number): number {
  const heads = width / 3 / size;
  return Math.floor(head / heads) * n * width + (which * heads + (head % heads)) * size;
}

interface Attention {
  qkv: Tensor;
  size: number;
  out: Tensor;
  logSumExp: Tensor;
}

/** Queries start..end of one head: softmax(q·kᵀ/sqrt(K))·v over keys 0..end. */
function attend(heap: Heap, attention: Attention, head: number, start: number, end: number): void {
  const { size, out, logSumExp } = attention;
  const [, n, width] = out.shape as [number, number, number];
  const keys = headRows(heap, attention, K, head, 0, end, true);
  const scores = product(headRows(heap, attention, Q, head, start, end), keys);
  const values = headRows(heap, attention, V, head, 0, end);
  const weights = heap.floats(scores);
  const sums = heap.floats(logSumExp).subarray(head * n + start, head * n + end);
  for (let row = 0; row < end - start; row++) {
    const visible = weights.subarray(row * end, row * end + start + row + 1);
    sums[row] = softmaxInPlace(visible, 1 / Math.sqrt(size));
    weights.fill(0, row * end + visible.length, (row + 1) * end);
  }
  const result = heap.floats(product(scores, values));
  const target = heap.floats(out);
  const first = mergedOffset(n, width, size, head);
  for (let t = start; t < end; t++) {
    target.set(result.subarray((t - start) * size, (t - start + 1) * size), first + t * width);
  }
}

/** x ← softmax(scale·x); returns log Σ exp(scale·x). */
function softmaxInPlace(x: Float32Array, scale: number): number {
  let top = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < x.length; i++) if ((x[i] as number) > top) top = x[i] as number;
  let total = 0;
  for (let i = 0; i < x.length; i++) {
    const weight = exponential(((x[i] as number) - top) * scale);
    x[i] = weight;
    total += weight;
  }
  const inverse = 1 / total;
  for (let i = 0; i < x.length; i++) x[i] = (x[i] as number) * inverse;
  return top * scale + Math.log(total);
}

/**
 * Adds the gradients from queries start..end of one head. Scores are stored transposed, [keys, queries], so that no product
 * needs a transpose flag; only dq comes out transposed, and it is small.
 */
function attendBack(
  heap: Heap,
  attention: Attention & { dout: Tensor; dqkv: Tensor },
  head: number,
  start: number,
  end: number,
): void {
  const { size, out, logSumExp, dout, dqkv } = attention;
  const [, n] = out.shape as [number, number, number];
  const queries = end - start;
  const dOut = mergedRows(heap, dout, size, head, start, end);
  const dOutTransposed = heap.make([size, queries]);
  transposeInto(heap.floats(dOut), heap.floats(dOutTransposed), queries, size);
  const queriesTransposed = headRows(heap, attention, Q, head, start, end, true);
  const scores = product(headRows(heap, attention, K, head, 0, end), queriesTransposed);
  const dWeights = product(headRows(heap, attention, V, head, 0, end), dOutTransposed);
  const outRows = mergedRows(heap, out, size, head, start, end);
  const delta = rowDots(heap.floats(dOut), heap.floats(outRows), size);
  const sums = heap.floats(logSumExp).subarray(head * n + start, head * n + end);
  softmaxGradient(heap.floats(scores), heap.floats(dWeights), sums, delta, start, 1 / Math.sqrt(size));
  addRows(heap, dqkv, size, V, head, 0, product(scores, dOut));
  addRows(heap, dqkv, size, K, head, 0, product(dWeights, headRows(heap, attention, Q, head, start, end)));
  const dQueries = product(headRows(heap, attention, K, head, 0, end, true), dWeights); // [K, queries]
  const dQueryRows = heap.make([queries, size]);
  transposeInto(heap.floats(dQueries), heap.floats(dQueryRows), size, queries);
  addRows(heap, dqkv, size, Q, head, start, dQueryRows);
}

/** Adds a matrix to consecutive rows of one head of q, k or v, starting at row `start`. */
function addRows(
  heap: Heap,
  packed: Tensor,
  size: number,
  which: number,
  head: number,
  start: number,
  addend: Tensor,
): void {
  const [, n, width] = packed.shape as [number, number, number];
  const [from, to] = [heap.floats(addend), heap.floats(packed)];
  let row = packedOffset(n, width, size, head, which) + start * width;
  for (let at = 0; at < from.length; at += size, row += width) {
    for (let i = 0; i < size; i++) to[row + i] = (to[row + i] as number) + (from[at + i] as number);
  }
}

/** Σ a·b over each row of `size` elements. */
function rowDots(a: Float32Array, b: Float32Array, size: number): Float64Array {
  return Float64Array.from({ length: a.length / size }, (_, row) => {
    let dot = 0;
    for (let i = row * size; i < (row + 1) * size; i++) dot += (a[i] as number) * (b[i] as number);
    return dot;
  });
}

/** scores ← P = exp(scale·score - logSumExp), dWeights ← P·(dWeights - delta)·scale; both [keys, queries], 0 where masked. */
function softmaxGradient(
  scores: Float32Array,
  dWeights: Float32Array,
  logSumExp: Float32Array,
  delta: Float64Array,
  start: number,
  scale: number,
): void {
  const queries = logSumExp.length;
  for (let key = 0; key < scores.length / queries; key++) {
    const row = key * queries;
    const firstVisible = Math.max(0, key - start);
    scores.fill(0, row, row + firstVisible);
    dWeights.fill(0, row, row + firstVisible);
    for (let i = firstVisible; i < queries; i++) {
      const weight = exponential((scores[row + i] as number) * scale - (logSumExp[i] as number));
      scores[row + i] = weight;
      dWeights[row + i] = weight * ((dWeights[row + i] as number) - (delta[i] as number)) * scale;
    }
  }
}

export const attentionKernels = [rotary, rotaryGrad, causalAttention, causalAttentionGrad];
