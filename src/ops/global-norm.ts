/** GlobalNorm: the Euclidean norm over all gradients at once, which clipping and the log need. */
import { addN, sqrt, square, sum, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';

/** Any number of tensors, by any names → [norm, a scalar] */
export const globalNormKernel = defineKernel(
  'GlobalNorm',
  (gradients: Record<string, Tensor>, _: object): [Tensor] => [
    sqrt(addN(Object.values(gradients).map((gradient) => sum(square(gradient))))),
  ],
);

/** sqrt(Σ over all elements of all tensors of their squares): a scalar. */
export function globalNorm(tensors: Tensor[]): Tensor {
  return globalNormKernel(Object.fromEntries(tensors.map((tensor, i) => [String(i), tensor])), {})[0];
}
