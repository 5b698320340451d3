/** Gelu and its gradient on wasm, each a sigmoid and one loop. */
import { sigmoid, type Tensor } from '@tensorflow/tfjs-core';
import { GELU_CUBIC, GELU_SCALE, geluGradKernel, geluKernel } from '../../ops/gelu.js';
import { type Heap, wasmKernel } from './heap.js';

const gelu = wasmKernel(geluKernel, (heap, { x }) => {
  const gate = gateOf(heap, x);
  const [from, to] = [heap.floats(x), heap.floats(gate)];
  for (let i = 0; i < to.length; i++) to[i] = (to[i] as number) * (from[i] as number);
  return [gate];
});

const geluGrad = wasmKernel(geluGradKernel, (heap, { dy, x }) => {
  const gate = gateOf(heap, x);
  const [from, to, d] = [heap.floats(x), heap.floats(gate), heap.floats(dy)];
  for (let i = 0; i < to.length; i++) {
    const [value, s] = [from[i] as number, to[i] as number];
    const slope = GELU_SCALE * (1 + 3 * GELU_CUBIC * value * value);
    to[i] = (d[i] as number) * s * (1 + value * slope * (1 - s));
  }
  return [gate];
});

/** sigmoid(2u) of gelu, as a new tensor; by tfjs' own sigmoid, which is vectorized. */
function gateOf(heap: Heap, x: Tensor): Tensor {
  const argument = heap.make(x.shape);
  const [from, to] = [heap.floats(x), heap.floats(argument)];
  for (let i = 0; i < to.length; i++) {
    const value = from[i] as number;
    to[i] = GELU_SCALE * value * (1 + GELU_CUBIC * value * value);
  }
  const gate = sigmoid(argument);
  argument.dispose();
  return gate;
}

export const geluKernels = [gelu, geluGrad];
