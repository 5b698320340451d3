/** Bias: y = x + b, with one b for each column or a single one; BiasGrad: the gradient of b. */
import { add, reshape, sum, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';

/** {x [.., D], bias [D] or [1]} → [y [.., D]] */
export const biasKernel = defineKernel(
  'Bias',
  ({ x, bias }: { x: Tensor; bias: Tensor }, _: object): [Tensor] => [add(x, bias)],
);

/** {dy [.., width]} → [db [width] = Σ dy over all rows] */
export const biasGradKernel = defineKernel(
  'BiasGrad',
  ({ dy }: { dy: Tensor }, { width }: { width: number }): [Tensor] => [sum(reshape(dy, [-1, width]), 0)],
);
