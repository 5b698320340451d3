/** Bias: y = x + b over the last dimension, and the bias' gradient. */
import { add, reshape, sum, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import type { Parameter, Tape } from './tape.js';

/** {x [.., D], bias [D]} → [y [.., D]] */
export const biasKernel = defineKernel(
  'Bias',
  ({ x, bias }: { x: Tensor; bias: Tensor }, _: object): [Tensor] => [add(x, bias)],
);

/** {dy [.., D]} → [db [D]]: the sum over all rows */
export const biasGradKernel = defineKernel('BiasGrad', ({ dy }: { dy: Tensor }, _: object): [Tensor] => [
  sum(reshape(dy, [-1, dy.shape[dy.rank - 1] as number]), 0),
]);

/** y = x + b. x [.., D], bias [D] → [.., D] */
export function addBias(tape: Tape | null, x: Tensor, bias: Parameter): Tensor {
  const [y] = biasKernel({ x, bias: bias.value }, {});
  tape?.record([y], [x, bias], [], ([dy]) => [dy, biasGradKernel({ dy }, {})[0]]);
  return y;
}
