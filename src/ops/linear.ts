/** Linear: y = α·x·Wᵀ, with W stored [out, in] as in PyTorch; and its two gradients. */
import { add, matMul, mul, reshape, type Tensor } from '@tensorflow/tfjs-core';
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

export interface LinearAttrs {
  /** Factor of the product, which a backend can apply without a pass of its own. */
  alpha: number;
}

/** α·x; x itself for α = 1. */
export const scaledBy = (x: Tensor, alpha: number): Tensor => (alpha === 1 ? x : mul(x, alpha));

/** x [.., D] as a matrix [rows, D]. */
export const rowsOf = (x: Tensor): Tensor => reshape(x, [-1, x.shape[x.rank - 1] as number]);

/** {x [.., in], weight [out, in]} → [y [.., out]] = α·x·Wᵀ */
export const linearKernel = defineKernel(
  'Linear',
  ({ x, weight }: LinearInputs, { alpha }: LinearAttrs): [Tensor] => [
    reshape(scaledBy(matMul(rowsOf(x), weight, false, true), alpha), [
      ...x.shape.slice(0, -1),
      weight.shape[0],
    ]),
  ],
);

/** {dy [.., out], weight [out, in]} → [dx [.., in]] = α·dy·W */
export const linearGradInputKernel = defineKernel(
  'LinearGradInput',
  ({ dy, weight }: LinearGradInputInputs, { alpha }: LinearAttrs): [Tensor] => [
    reshape(scaledBy(matMul(rowsOf(dy), weight), alpha), [
      ...dy.shape.slice(0, -1),
      weight.shape[1] as number,
    ]),
  ],
);

/** {dy [.., out], x [.., in], gradAccum? [out, in]} → [dW [out, in]] = gradAccum + α·dyᵀ·x */
export const linearGradWeightKernel = defineKernel(
  'LinearGradWeight',
  ({ dy, x, gradAccum }: LinearGradWeightInputs, { alpha }: LinearAttrs): [Tensor] => {
    const gradient = scaledBy(matMul(rowsOf(dy), rowsOf(x), true, false), alpha);
    return [gradAccum === undefined ? gradient : add(gradAccum, gradient)];
  },
);

/** y = α·x·Wᵀ. x [.., in], weight [out, in] → [.., out] */
export function linear(tape: Tape | null, x: Tensor, weight: Parameter, alpha = 1): Tensor {
  const attrs = { alpha };
  const [y] = linearKernel({ x, weight: weight.value }, attrs);
  tape?.record([y], [x, weight], [x], ([dy], inputs) => {
    const [dweight] = linearGradWeightKernel({ dy, x, gradAccum: inputs.gradAccum(1) }, attrs);
    inputs.done(x);
    return [inputs.needed(0) ? linearGradInputKernel({ dy, weight: weight.value }, attrs)[0] : null, dweight];
  });
  return y;
}
