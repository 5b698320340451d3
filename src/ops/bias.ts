/** Bias: y = x + b over the last dimension, or one b for all; and the bias' gradient. */
import { add, reshape, sum, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';

/** {x [.., D], bias [D] or [1]} → [y [.., D]] */
export const biasKernel = defineKernel(
  'Bias',
  ({ x, bias }: { x: Tensor; bias: Tensor }, _: object): [Tensor] => [add(x, bias)],
);

/** {dy, as rows of `width` elements} → [db [width]]: the sum over all rows */
export const biasGradKernel = defineKernel(
  'BiasGrad',
  ({ dy }: { dy: Tensor }, { width }: { width: number }): [Tensor] => [sum(reshape(dy, [-1, width]), 0)],
);
