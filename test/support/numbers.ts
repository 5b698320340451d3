/** Seeded random tensors and the relative error of arrays. */
import { type Tensor, tensor } from '@tensorflow/tfjs-core';
import { randomStream } from '../../src/random.js';

export function randomValues(size: number, ...keys: (string | number)[]): Float32Array {
  const values = new Float32Array(size);
  randomStream(0, 'test', ...keys).fillNormal(values, 1);
  return values;
}

export function randomTensor(shape: number[], ...keys: (string | number)[]): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  return tensor(randomValues(size, ...keys), shape);
}

/** max|a - b| / max(max|b|, floor); references that may be all zero need a positive `floor`. */
export function relativeError(actual: ArrayLike<number>, reference: ArrayLike<number>, floor = 0): number {
  if (actual.length !== reference.length) return Number.POSITIVE_INFINITY;
  let [difference, size] = [0, 0];
  for (let i = 0; i < reference.length; i++) {
    const distance = Math.abs((actual[i] as number) - (reference[i] as number));
    difference = Number.isNaN(distance) ? Number.POSITIVE_INFINITY : Math.max(difference, distance);
    size = Math.max(size, Math.abs(reference[i] as number));
  }
  return difference === 0 ? 0 : difference / Math.max(size, floor);
}
