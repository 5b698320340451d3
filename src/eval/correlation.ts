/**
 * Correlation coefficients over tokens, with bootstrap intervals over sequences, since the tokens of one sequence are not
 * independent.
 */
import { randomStream } from '../random.js';

export interface Correlation {
  /** Null if one of the two variables is constant. */
  r: number | null;
  /** 95% interval: percentiles of the resampled coefficients; null if r is null or there is a single sequence. */
  interval: [low: number, high: number] | null;
}

const RESAMPLES = 1000;

/** n, Σx, Σy, Σx², Σy², Σxy of a sequence: Pearson's coefficient follows from them. */
type Sums = [number, number, number, number, number, number];

/** Pearson's r of x and y: `length` values per sequence, one sequence after another. */
export function pearson(x: ArrayLike<number>, y: ArrayLike<number>, length: number): Correlation {
  const sequences: Sums[] = [];
  for (let start = 0; start < x.length; start += length) sequences.push(sumsOf(x, y, start, length));
  const r = coefficient(sequences);
  if (r === null || sequences.length < 2) return { r, interval: null };
  const stream = randomStream(0, 'bootstrap');
  const resampled: number[] = [];
  for (let i = 0; i < RESAMPLES; i++) {
    const drawn = sequences.map(() => sequences[stream.bits() % sequences.length] as Sums);
    resampled.push(coefficient(drawn) ?? 0);
  }
  resampled.sort((a, b) => a - b);
  const at = (share: number) => resampled[Math.round(share * (RESAMPLES - 1))] as number;
  return { r, interval: [at(0.025), at(0.975)] };
}

/** Spearman's rho: Pearson's r of the ranks over all tokens, equal values with their mean rank. */
export function spearman(x: ArrayLike<number>, y: ArrayLike<number>, length: number): Correlation {
  return pearson(ranks(x), ranks(y), length);
}

/** Ranks from 1, the smallest value's; equal values get their mean rank. */
export function ranks(values: ArrayLike<number>): Float64Array {
  const order = Uint32Array.from({ length: values.length }, (_, i) => i);
  order.sort((a, b) => (values[a] as number) - (values[b] as number));
  const result = new Float64Array(values.length);
  for (let first = 0; first < order.length; ) {
    let end = first;
    const value = values[order[first] as number];
    while (end < order.length && values[order[end] as number] === value) end += 1;
    for (let i = first; i < end; i++) result[order[i] as number] = (first + 1 + end) / 2;
    first = end;
  }
  return result;
}

function sumsOf(x: ArrayLike<number>, y: ArrayLike<number>, start: number, length: number): Sums {
  const sums: Sums = [0, 0, 0, 0, 0, 0];
  for (let i = start; i < Math.min(start + length, x.length); i++) {
    const [a, b] = [x[i] as number, y[i] as number];
    sums[0] += 1;
    sums[1] += a;
    sums[2] += b;
    sums[3] += a * a;
    sums[4] += b * b;
    sums[5] += a * b;
  }
  return sums;
}

function coefficient(sequences: readonly Sums[]): number | null {
  const total: Sums = [0, 0, 0, 0, 0, 0];
  for (const sums of sequences)
    for (let i = 0; i < 6; i++) total[i] = (total[i] as number) + (sums[i] as number);
  const [n, x, y, xx, yy, xy] = total;
  const [varianceX, varianceY] = [xx - (x * x) / n, yy - (y * y) / n];
  // Constant values leave a variance of rounding errors.
  if (varianceX <= 1e-12 * xx || varianceY <= 1e-12 * yy) return null;
  return Math.max(-1, Math.min(1, (xy - (x * y) / n) / Math.sqrt(varianceX * varianceY)));
}
