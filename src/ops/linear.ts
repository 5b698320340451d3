/** Linear: y = x·Wᵀ, with W stored [out, in] as in PyTorch; and its two gradients. */
import { add, matMul, reshape, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import type { Parameter, Tape } from './tape.js';

export interface LinearInputs extends Record<string, Tensor> {
  x: Tensor;
  weight: Tensor;
}
export interface LinearGradInputInputs extends Record<string, Tensor> {
  dy: Tensor;
  weight: Tensor;
}
export interface LinearGradWeightInputs extends Record<string, Tensor | undefined> {
  dy: Tensor;
  x: Tensor;
  /** The accumulated gradient, which is consumed. */
  gradAccum: Tensor | undefined;
}

/** x [.., D] as a matrix [rows, D]. */
export const rowsOf = (x: Tensor): Tensor => reshape(x, [-1, x.shape[x.rank - 1] as number]);

/** {x [.., in], weight [out, in]} → [y [.., out]] */
export const linearKernel = defineKernel('Linear', ({ x, weight }: LinearInputs, _: object): [Tensor] => [
  reshape(matMul(rowsOf(x), weight, false, true), [...x.shape.slice(0, -1), weight.shape[0]]),
]);

/** {dy [.., out], weight [out, in]} → [dx [.., in]] = dy·W */
export const linearGradInputKernel = defineKernel(
  'LinearGradInput',
  ({ dy, weight }: LinearGradInputInputs, _: object): [Tensor] => [
    reshape(matMul(rowsOf(dy), weight), [...dy.shape.slice(0, -1), weight.shape[1] as number]),
  ],
);

/** {dy [.., out], x [.., in], gradAccum? [out, in]} → [dW [out, in]] = gradAccum + dyᵀ·x */
export const linearGradWeightKernel = defineKernel(
  'LinearGradWeight',
  ({ dy, x, gradAccum }: LinearGradWeightInputs, _: object): [Tensor] => {
    const gradient = matMul(rowsOf(dy), rowsOf(x), true, false);
    return [gradAccum === undefined ? gradient : add(gradAccum, gradient)];
  },
);

/** y = x·Wᵀ. x [.., in], weight [out, in] → [.., out] */
export function linear(tape: Tape | null, x: Tensor, weight: Parameter): Tensor {
  const [y] = linearKernel({ x, weight: weight.value }, {});
  tape?.record([y], [x, weight], [x], ([dy], inputs) => {
    const [dweight] = linearGradWeightKernel({ dy, x, gradAccum: inputs.gradAccum(1) }, {});
    inputs.done(x);
    return [inputs.needed(0) ? linearGradInputKernel({ dy, weight: weight.value }, {})[0] : null, dweight];
  });
  return y;
}
