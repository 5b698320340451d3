/** Elementwise passes: gelu, residual sums and biases: elementwise.cu. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { biasGradKernel, biasKernel } from '../../../ops/bias.js';
import { geluGradKernel, geluKernel } from '../../../ops/gelu.js';
import { residualKernel } from '../../../ops/residual.js';
import { type Call, cudaKernel } from '../driver/call.js';
import { address, long } from '../driver/kernel-library.js';
import { elementThreads, vectorOf } from './launch-shapes.js';
import { sumColumns } from './sums.js';

const gelu = cudaKernel(geluKernel, (call, { x }) => {
  const y = call.makeActivation(x.shape);
  overElements(call, 'gelu', x.size, [x, y]);
  return [y];
});

/** dx is written over dy, unless another tensor shares its memory. */
const geluGrad = cudaKernel(geluGradKernel, (call, { dy, x }) => {
  const dx = call.reuse(dy, call.backend.activations);
  overElements(call, 'geluGrad', x.size, [dx, x, dx]);
  return [dx];
});

const residual = cudaKernel(residualKernel, (call, { x, y }) => {
  const sum = call.makeActivation(x.shape);
  overElements(call, 'residual', x.size, [x, y, sum]);
  return [sum];
});

/** Logits stay in float32; activations keep their storage. */
const addBias = cudaKernel(biasKernel, (call, { x, bias }) => {
  const { storage } = call.backend.dataOf(x);
  const y = call.make(x.shape, storage);
  call.launch('elementwise', storage === 'float32' ? 'biasFloat' : 'bias', elementThreads(x.size), [
    address(call.at(x)),
    address(call.float(bias)),
    address(call.at(y)),
    long(x.size),
    bias.size,
  ]);
  return [y];
});

const biasGrad = cudaKernel(biasGradKernel, (call, { dy }, { width }) => [
  sumColumns(call, { dy, rows: dy.size / width, width }),
]);

export const elementwiseKernels = [gelu, geluGrad, residual, addBias, biasGrad];

/** Runs a kernel over tensors of `size` elements that are stored as activations; it writes the last one. */
export function overElements(call: Call, name: string, size: number, tensors: TensorInfo[]): void {
  const vector = vectorOf(size);
  call.launch('elementwise', `${name}${vector}`, elementThreads(size, vector), [
    ...tensors.map((tensor) => address(call.activation(tensor))),
    long(size),
  ]);
}
