/**
 * NormalDraws: independent N(0, 1) numbers that depend only on a key and their position (a counter-based generator), so that
 * every backend draws the same numbers in any order, without a random state that must be saved.
 */
import { type Tensor, tensor2d } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';

export interface NormalDrawsAttrs {
  sequences: number;
  length: number;
}

/** Multipliers and key increments of Philox4x32 (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3). */
const MULTIPLIERS = [0xd2511f53, 0xcd9e8d57] as const;
const KEY_STEPS = [0x9e3779b9, 0xbb67ae85] as const;
const ROUNDS = 10;

/** The upper 32 bits of a product of two unsigned 32-bit integers. */
function multiplyHigh(a: number, b: number): number {
  const [aLow, aHigh, bLow, bHigh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carried = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + (carried >>> 16)) >>> 0;
}

/** Philox4x32-10: replaces the four words of the counter by four random words. */
export function philox(counter: Uint32Array, key0: number, key1: number): void {
  let [c0, c1, c2, c3] = counter as unknown as [number, number, number, number];
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIERS[0], c0);
    const high1 = multiplyHigh(MULTIPLIERS[1], c2);
    const next0 = (high1 ^ c1 ^ (key0 + round * KEY_STEPS[0])) >>> 0;
    const next2 = (high0 ^ c3 ^ (key1 + round * KEY_STEPS[1])) >>> 0;
    c1 = Math.imul(MULTIPLIERS[1], c2) >>> 0;
    c3 = Math.imul(MULTIPLIERS[0], c0) >>> 0;
    c0 = next0;
    c2 = next2;
  }
  counter.set([c0, c1, c2, c3]);
}

/** The midpoint of one of 2²³ equal parts of (0, 1), exact in float32, so that backends agree. */
const uniform = (bits: number): number => ((bits >>> 9) + 0.5) / 2 ** 23;

/**
 * {key [2], first [1]}, integers → [draws [sequences, length]]. Row i is sequence first + i. Its numbers 4g to 4g + 3 are the
 * two pairs (Box and Muller 1958) from the four words of Philox4x32-10 at counter (g, first + i, 0, 0), 23 bits of each word.
 * The composed definition runs on the host.
 */
export const normalDrawsKernel = defineKernel(
  'NormalDraws',
  (
    { key, first }: { key: Tensor; first: Tensor },
    { sequences, length }: NormalDrawsAttrs,
  ): [draws: Tensor] => {
    const [key0, key1] = key.dataSync() as unknown as [number, number];
    const [start] = first.dataSync() as unknown as [number];
    const draws = new Float32Array(sequences * length);
    const words = new Uint32Array(4);
    for (let i = 0; i < sequences; i++) {
      for (let t = 0; t < length; t++) {
        if (t % 4 === 0) {
          words.set([t / 4, start + i, 0, 0]);
          philox(words, key0, key1);
        }
        const pair = 2 * Math.floor((t % 4) / 2);
        const radius = Math.sqrt(-2 * Math.log(uniform(words[pair] as number)));
        const angle = 2 * Math.PI * uniform(words[pair + 1] as number);
        draws[i * length + t] = radius * (t % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
      }
    }
    return [tensor2d(draws, [sequences, length])];
  },
);
