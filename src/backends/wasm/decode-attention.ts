/** DecodeAttention and PrefillCache on wasm: loops over the cached tokens, faster than products over so few rows. */
import { decodeAttentionKernel } from '../../ops/decode-attention.js';
import { prefillCacheKernel } from '../../ops/prefill-cache.js';
import { exponential } from './exponential.js';
import { wasmKernel } from './heap.js';

const prefillCache = wasmKernel(prefillCacheKernel, (heap, { qkv }, { lengths, slots }) => {
  const D = (qkv.shape[2] as number) / 3;
  const cache = heap.make([lengths.length, slots, 2 * D]);
  const [from, to] = [heap.floats(qkv), heap.floats(cache)];
  to.fill(0);
  let row = 0;
  lengths.forEach((length, sequence) => {
    for (let t = 0; t < length; t++, row++) {
      to.set(from.subarray(row * 3 * D + D, (row + 1) * 3 * D), (sequence * slots + t) * 2 * D);
    }
  });
  return [cache];
});

const decodeAttention = wasmKernel(
  decodeAttentionKernel,
  (heap, { qkv, cache, rows, lengths }, { heads }) => {
    const [, slots, width] = cache.shape as [number, number, number];
    const D = width / 2;
    const size = D / heads;
    const out = heap.make([1, rows.size, D]);
    const next = heap.reuse(cache);
    const [from, kv, to] = [heap.floats(qkv), heap.floats(next), heap.floats(out)];
    const [sequence, length] = [heap.ints(rows), heap.ints(lengths)];
    const scores = new Float32Array(slots);
    for (let i = 0; i < sequence.length; i++) {
      const first = (sequence[i] as number) * slots * width;
      const cached = length[i] as number;
      kv.set(from.subarray(i * 3 * D + D, (i + 1) * 3 * D), first + cached * width);
      for (let head = 0; head < heads; head++) {
        const at = head * size;
        attentionWeights(from, i * 3 * D + at, kv, first + at, width, size, scores.subarray(0, cached + 1));
        const sums = to.subarray(i * D + at, i * D + at + size);
        weightedSum(scores.subarray(0, cached + 1), kv, first + D + at, width, sums);
      }
    }
    return [out, next];
  },
);

/** weights ← softmax(q·k/sqrt(K)) of one head, over rows of keys that are `pitch` apart. */
function attentionWeights(
  q: Float32Array,
  qStart: number,
  keys: Float32Array,
  kStart: number,
  pitch: number,
  size: number,
  weights: Float32Array,
): void {
  const scale = 1 / Math.sqrt(size);
  let top = Number.NEGATIVE_INFINITY;
  for (let t = 0; t < weights.length; t++) {
    const key = kStart + t * pitch;
    // Four partial sums, so that additions do not wait for each other. The size of a head is even.
    let [a, b, c, d] = [0, 0, 0, 0];
    let i = 0;
    for (; i + 3 < size; i += 4) {
      a += (q[qStart + i] as number) * (keys[key + i] as number);
      b += (q[qStart + i + 1] as number) * (keys[key + i + 1] as number);
      c += (q[qStart + i + 2] as number) * (keys[key + i + 2] as number);
      d += (q[qStart + i + 3] as number) * (keys[key + i + 3] as number);
    }
    for (; i < size; i++) a += (q[qStart + i] as number) * (keys[key + i] as number);
    const score = (a + b + (c + d)) * scale;
    weights[t] = score;
    if (score > top) top = score;
  }
  let total = 0;
  for (let t = 0; t < weights.length; t++) {
    weights[t] = exponential((weights[t] as number) - top);
    total += weights[t] as number;
  }
  for (let t = 0; t < weights.length; t++) weights[t] = (weights[t] as number) / total;
}

/** sums ← Σ weights·values of one head, over rows that are `pitch` apart, four rows in each pass over the sums. */
function weightedSum(
  weights: Float32Array,
  values: Float32Array,
  start: number,
  pitch: number,
  sums: Float32Array,
): void {
  sums.fill(0);
  let t = 0;
  for (; t + 3 < weights.length; t += 4) {
    const [w0, w1] = [weights[t] as number, weights[t + 1] as number];
    const [w2, w3] = [weights[t + 2] as number, weights[t + 3] as number];
    const v = start + t * pitch;
    for (let d = 0; d < sums.length; d++) {
      const first = w0 * (values[v + d] as number) + w1 * (values[v + pitch + d] as number);
      const second = w2 * (values[v + 2 * pitch + d] as number) + w3 * (values[v + 3 * pitch + d] as number);
      sums[d] = (sums[d] as number) + (first + second);
    }
  }
  for (; t < weights.length; t++) {
    const weight = weights[t] as number;
    for (let d = 0; d < sums.length; d++) {
      sums[d] = (sums[d] as number) + weight * (values[start + t * pitch + d] as number);
    }
  }
}

export const decodeKernels = [prefillCache, decodeAttention];
