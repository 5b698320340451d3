/** CachedAttention on wasm: loops over the tokens that are there; a product over so few rows would not pay. */
import { cachedAttentionKernel } from '../../ops/cached-attention.js';
import { exponential } from './exponential.js';
import { registerWasmKernel } from './heap.js';

export function registerCachedAttention(): void {
  registerWasmKernel(cachedAttentionKernel, (heap, { qkv, cache, rows, lengths }, { heads }) => {
    const [, room, width] = cache.shape as [number, number, number];
    const D = width / 2;
    const size = D / heads;
    const out = heap.make([1, rows.size, D]);
    const next = heap.reuse(cache);
    const [from, kv, to] = [heap.floats(qkv), heap.floats(next), heap.floats(out)];
    const [sequence, length] = [heap.ints(rows), heap.ints(lengths)];
    const scores = new Float32Array(room);
    to.fill(0);
    for (let i = 0; i < sequence.length; i++) {
      const first = (sequence[i] as number) * room * width;
      const cached = length[i] as number;
      kv.set(from.subarray(i * 3 * D + D, (i + 1) * 3 * D), first + cached * width);
      for (let head = 0; head < heads; head++) {
        const at = head * size;
        weigh(from, i * 3 * D + at, kv, first + at, width, size, scores.subarray(0, cached + 1));
        for (let t = 0; t <= cached; t++) {
          const weight = scores[t] as number;
          const value = first + t * width + D + at;
          for (let d = 0; d < size; d++) {
            to[i * D + at + d] = (to[i * D + at + d] as number) + weight * (kv[value + d] as number);
          }
        }
      }
    }
    return [out, next];
  });
}

/** weights ← softmax(q·k/sqrt(K)) of one head over rows of keys, one every `pitch`. */
function weigh(
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
    let dot = 0;
    for (let d = 0; d < size; d++) {
      dot += (q[qStart + d] as number) * (keys[kStart + t * pitch + d] as number);
    }
    weights[t] = dot * scale;
    if ((weights[t] as number) > top) top = weights[t] as number;
  }
  let total = 0;
  for (let t = 0; t < weights.length; t++) {
    weights[t] = exponential((weights[t] as number) - top);
    total += weights[t] as number;
  }
  for (let t = 0; t < weights.length; t++) weights[t] = (weights[t] as number) / total;
}
