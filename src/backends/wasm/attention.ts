/**
 * RotaryHeads and CausalAttention on wasm: a product per head and block of queries, only over the keys that the block
 * can see; softmax and its gradient are loops over the causal part alone.
 */
import type { Tensor } from '@tensorflow/tfjs-core';
import { causalAttentionGradKernel, causalAttentionKernel } from '../../ops/causal-attention.js';
import { rotaryHeadsGradKernel, rotaryHeadsKernel } from '../../ops/rotary-heads.js';
import { scope } from '../../ops/scope.js';
import { exponential } from './exponential.js';
import { type Heap, product, registerWasmKernel, transposeInto } from './heap.js';

/** Queries at a time: large enough for products to run at full rate, small enough to skip most of the masked half. */
const QUERY_BLOCK = 128;

export function registerAttention(): void {
  registerWasmKernel(rotaryHeadsKernel, (heap, { qkv, table, positions }) => {
    const [batch, n, width] = qkv.shape as [number, number, number];
    const size = table.shape[1] as number;
    const shape = [batch, width / 3 / size, n, size];
    const outputs = [heap.make(shape), heap.make(shape), heap.make(shape)] as [Tensor, Tensor, Tensor];
    const rows = outputs.map((output) => heap.floats(output)) as Rows;
    turn(heap.floats(qkv), rows, heap.floats(table), positions ? heap.ints(positions) : null, shape, true);
    return outputs;
  });

  registerWasmKernel(rotaryHeadsGradKernel, (heap, { dq, dk, dv, table, positions }) => {
    const [batch, heads, n, size] = dq.shape as [number, number, number, number];
    const dqkv = heap.make([batch, n, 3 * heads * size]);
    const rows = [dq, dk, dv].map((gradient) => heap.floats(gradient)) as Rows;
    const at = positions ? heap.ints(positions) : null;
    turn(heap.floats(dqkv), rows, heap.floats(table), at, dq.shape, false);
    return [dqkv];
  });

  registerWasmKernel(causalAttentionKernel, (heap, { q, k, v }) => {
    const [batch, heads, n, size] = q.shape as [number, number, number, number];
    const out = heap.make([batch, n, heads * size]);
    const logSumExp = heap.make([batch, heads, n]);
    for (let head = 0; head < batch * heads; head++) {
      for (let start = 0; start < n; start += QUERY_BLOCK) {
        scope(() => attend(heap, { q, k, v, out, logSumExp }, head, start, Math.min(start + QUERY_BLOCK, n)));
      }
    }
    return [out, logSumExp];
  });

  registerWasmKernel(causalAttentionGradKernel, (heap, inputs) => {
    const { shape } = inputs.q;
    const gradients = [heap.make(shape), heap.make(shape), heap.make(shape)] as [Tensor, Tensor, Tensor];
    const [, dk, dv] = gradients;
    heap.floats(dk).fill(0);
    heap.floats(dv).fill(0);
    const [batch, heads, n] = shape as [number, number, number];
    for (let head = 0; head < batch * heads; head++) {
      for (let start = 0; start < n; start += QUERY_BLOCK) {
        scope(() => attendBack(heap, inputs, gradients, head, start, Math.min(start + QUERY_BLOCK, n)));
      }
    }
    return gradients;
  });
}

type Rows = [Float32Array, Float32Array, Float32Array];

/** Between the fused rows [B, n, 3·H·K] and q, k, v by head [B, H, n, K], q and k turned forwards or back. */
function turn(
  fused: Float32Array,
  byHead: Rows,
  table: Float32Array,
  positions: Int32Array | null,
  shape: number[],
  forwards: boolean,
): void {
  const [batch, heads, n, size] = shape as [number, number, number, number];
  const half = size / 2;
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < n; t++) {
      const angles = (positions === null ? t : (positions[b * n + t] as number)) * size;
      for (let which = 0; which < 3; which++) {
        const rows = byHead[which] as Float32Array;
        for (let h = 0; h < heads; h++) {
          const f = (((b * n + t) * 3 + which) * heads + h) * size;
          const r = ((b * heads + h) * n + t) * size;
          for (let i = 0; i < half; i++) {
            // v is not turned.
            const cos = which === 2 ? 1 : (table[angles + i] as number);
            const sin = which === 2 ? 0 : (table[angles + half + i] as number);
            if (forwards) {
              const [first, second] = [fused[f + i] as number, fused[f + half + i] as number];
              rows[r + i] = first * cos - second * sin;
              rows[r + half + i] = second * cos + first * sin;
            } else {
              const [first, second] = [rows[r + i] as number, rows[r + half + i] as number];
              fused[f + i] = first * cos + second * sin;
              fused[f + half + i] = second * cos - first * sin;
            }
          }
        }
      }
    }
  }
}

/** Rows start..end of one head of x [B, H, n, K] as a matrix, or its transpose. */
function headRows(
  heap: Heap,
  x: Tensor,
  head: number,
  start: number,
  end: number,
  transpose = false,
): Tensor {
  const [, , n, size] = x.shape as [number, number, number, number];
  const matrix = heap.make(transpose ? [size, end - start] : [end - start, size]);
  const rows = heap.floats(x).subarray((head * n + start) * size, (head * n + end) * size);
  if (transpose) transposeInto(rows, heap.floats(matrix), end - start, size);
  else heap.floats(matrix).set(rows);
  return matrix;
}

/** The same of a tensor with heads merged, [B, n, H·K]. */
function mergedRows(heap: Heap, x: Tensor, size: number, head: number, start: number, end: number): Tensor {
  const [, n, width] = x.shape as [number, number, number];
  const matrix = heap.make([end - start, size]);
  const [from, to] = [heap.floats(x), heap.floats(matrix)];
  const first = mergedOffset(n, width, size, head);
  for (let t = start; t < end; t++) {
    to.set(from.subarray(first + t * width, first + t * width + size), (t - start) * size);
  }
  return matrix;
}

/** Where row 0 of a head starts in [B, n, H·K]; the next row is `width` further. */
function mergedOffset(n: number, width: number, size: number, head: number): number {
  const heads = width / size;
  return Math.floor(head / heads) * n * width + (head % heads) * size;
}

interface Attention {
  q: Tensor;
  k: Tensor;
  v: Tensor;
  out: Tensor;
  logSumExp: Tensor;
}

/** Queries start..end of one head: softmax(q·kᵀ/sqrt(K))·v over keys 0..end. */
function attend(
  heap: Heap,
  { q, k, v, out, logSumExp }: Attention,
  head: number,
  start: number,
  end: number,
): void {
  const [, , n, size] = q.shape as [number, number, number, number];
  const scale = 1 / Math.sqrt(size);
  const scores = product(headRows(heap, q, head, start, end), headRows(heap, k, head, 0, end, true));
  const values = headRows(heap, v, head, 0, end);
  const weights = heap.floats(scores);
  const sums = heap.floats(logSumExp).subarray(head * n + start, head * n + end);
  for (let row = 0; row < end - start; row++) {
    const visible = weights.subarray(row * end, row * end + start + row + 1);
    sums[row] = softmaxInPlace(visible, scale);
    weights.fill(0, row * end + visible.length, (row + 1) * end);
  }
  const result = heap.floats(product(scores, values));
  const width = out.shape[2] as number;
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
 * The part of the gradients that queries start..end of one head give. Scores are kept transposed, keys down and queries
 * across: then every product is plain but dq's, which comes out transposed and is small.
 */
function attendBack(
  heap: Heap,
  inputs: Attention & { dout: Tensor },
  [dq, dk, dv]: [Tensor, Tensor, Tensor],
  head: number,
  start: number,
  end: number,
): void {
  const { q, k, v, out, logSumExp, dout } = inputs;
  const [, , n, size] = q.shape as [number, number, number, number];
  const queries = end - start;
  const dOut = mergedRows(heap, dout, size, head, start, end);
  const dOutTransposed = heap.make([size, queries]);
  transposeInto(heap.floats(dOut), heap.floats(dOutTransposed), queries, size);
  const scores = product(headRows(heap, k, head, 0, end), headRows(heap, q, head, start, end, true));
  const dWeights = product(headRows(heap, v, head, 0, end), dOutTransposed);
  const outRows = mergedRows(heap, out, size, head, start, end);
  const delta = rowDots(heap.floats(dOut), heap.floats(outRows), size);
  const sums = heap.floats(logSumExp).subarray(head * n + start, head * n + end);
  softmaxGradient(heap.floats(scores), heap.floats(dWeights), sums, delta, start, 1 / Math.sqrt(size));
  addRows(heap, dv, head, product(scores, dOut));
  addRows(heap, dk, head, product(dWeights, headRows(heap, q, head, start, end)));
  const dQueries = product(headRows(heap, k, head, 0, end, true), dWeights); // [K, queries]
  const target = heap.floats(dq).subarray((head * n + start) * size, (head * n + end) * size);
  transposeInto(heap.floats(dQueries), target, size, queries);
}

/** Adds a matrix to the first rows of one head. */
function addRows(heap: Heap, x: Tensor, head: number, addend: Tensor): void {
  const [, , n, size] = x.shape as [number, number, number, number];
  const from = heap.floats(addend);
  const to = heap.floats(x).subarray(head * n * size, head * n * size + from.length);
  for (let i = 0; i < from.length; i++) to[i] = (to[i] as number) + (from[i] as number);
}

/** Σ a·b over each row of `size`. */
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
