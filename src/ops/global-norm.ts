/** GlobalNorm: the Euclidean norm of all gradients as one vector, for clipping and the log. */
import { addN, sqrt, square, sum, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';

/** Any number of tensors, under any names → [norm, a scalar] */
export const globalNormKernel = defineKernel(
  'GlobalNorm',
  (gradients: Record<string, Tensor>, _: object): [Tensor] => [
    sqrt(addN(Object.values(gradients).map((gradient) => sum(square(gradient))))),
  ],
);

/** sqrt(Σ x²) over all elements of all tensors: a scalar. */
export function globalNorm(tensors: Tensor[]): Tensor {
  return globalNormKernel(Object.fromEntries(tensors.map((tensor, i) => [String(i), tensor])), {})[0];
}
