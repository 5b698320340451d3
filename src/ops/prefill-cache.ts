/** PrefillCache: the initial key-value cache of a decoder, from the prompts' keys and values. */
import { concat, reshape, slice, type Tensor, zeros } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';

export interface PrefillCacheAttrs {
  /** Tokens of each sequence; the rows are in the order of the sequences. */
  lengths: number[];
  /** Slots of each sequence's cache: its maximum number of tokens. */
  slots: number;
}

/**
 * {qkv with q and k rotated, [B, n, 3D] or packed [1, N, 3D]} → [cache [S, slots, 2D]]: for each token the keys of all heads,
 * then the values; zeros after a sequence's last token.
 */
export const prefillCacheKernel = defineKernel(
  'PrefillCache',
  ({ qkv }: { qkv: Tensor }, { lengths, slots }: PrefillCacheAttrs): [Tensor] => {
    const D = (qkv.shape[2] as number) / 3;
    const rows = reshape(qkv, [-1, 3 * D]);
    let start = 0;
    const caches = lengths.map((length) => {
      const own = slice(rows, [start, D], [length, 2 * D]);
      start += length;
      const whole = length === slots ? own : concat([own, zeros([slots - length, 2 * D])]);
      return reshape(whole, [1, slots, 2 * D]);
    });
    return [concat(caches)];
  },
);
