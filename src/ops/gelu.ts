/** GELU in its tanh form (Hendrycks and Gimpel 2016): x·(1 + tanh u)/2 = x·sigmoid(2u) with u = sqrt(2/π)·(x + 0.044715·x³). */
import { add, mul, scalar, sigmoid, square, sub, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';

/** 2·sqrt(2/π): 2u = GELU_SCALE·(x + GELU_CUBIC·x³). */
export const GELU_SCALE = 2 * Math.sqrt(2 / Math.PI);
export const GELU_CUBIC = 0.044715;

const gate = (x: Tensor) => sigmoid(mul(x, add(mul(square(x), GELU_SCALE * GELU_CUBIC), GELU_SCALE)));

/** {x} → [gelu(x)] */
export const geluKernel = defineKernel('Gelu', ({ x }: { x: Tensor }, _: object): [Tensor] => [
  mul(x, gate(x)),
]);

/** {dy, x} → [dx]: with s = sigmoid(2u), dx = dy·(s + x·s·(1 - s)·d(2u)/dx). dy is consumed. */
export const geluGradKernel = defineKernel(
  'GeluGrad',
  ({ dy, x }: { dy: Tensor; x: Tensor }, _: object): [Tensor] => {
    const s = gate(x);
    const slope = add(mul(square(x), 3 * GELU_SCALE * GELU_CUBIC), GELU_SCALE);
    return [mul(dy, add(s, mul(mul(x, slope), mul(s, sub(scalar(1), s)))))];
  },
);
