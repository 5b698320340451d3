/** Linear and its gradients on TensorFlow, of all experts at once, too: one product each; in bf16 where asked for. */
import type { Tensor } from '@tensorflow/tfjs-core';
import {
  groupedLinearGradInputKernel,
  groupedLinearGradWeightKernel,
  groupedLinearKernel,
} from '../../ops/grouped-linear.js';
import { linearGradInputKernel, linearGradWeightKernel, linearKernel } from '../../ops/linear.js';
import {
  bool,
  type Calls,
  DTYPE,
  type Handle,
  last,
  type Operand,
  registerTensorflowKernel,
} from './calls.js';

export type ProductPrecision = 'fp32' | 'bf16';

/** `precision` is asked at every call: it is the process' choice, made when the backend starts. */
export function registerLinear(precision: () => ProductPrecision): void {
  const rows = (calls: Calls, x: Tensor): Handle => {
    const width = x.shape[x.rank - 1] as number;
    return x.rank === 2 ? calls.input(x) : calls.reshape(calls.input(x), [x.size / width, width]);
  };

  const product = (calls: Calls, a: Handle, b: Handle, transposeA: boolean, transposeB: boolean): Handle => {
    // As a batched product of one: TensorFlow's MatMul takes half as long again for aᵀ·b with many columns of a.
    const multiply = (left: Operand, right: Operand) =>
      calls.run('BatchMatMulV2', [left, right], [bool('adj_x', transposeA), bool('adj_y', transposeB)]);
    if (precision() === 'fp32') return multiply(a, b);
    const [left, right] = [calls.cast(a, DTYPE.bfloat16), calls.cast(b, DTYPE.bfloat16)];
    return calls.cast(last(multiply(last(left), last(right))), DTYPE.float32);
  };

  registerTensorflowKernel(linearKernel, (calls, { x, weight }) => {
    const y = product(calls, rows(calls, x), calls.input(weight), false, true);
    return [calls.reshape(y, [...x.shape.slice(0, -1), weight.shape[0] as number])];
  });

  registerTensorflowKernel(linearGradInputKernel, (calls, { dy, weight }) => {
    const dx = product(calls, rows(calls, dy), calls.input(weight), false, false);
    return [calls.reshape(dx, [...dy.shape.slice(0, -1), weight.shape[1] as number])];
  });

  registerTensorflowKernel(linearGradWeightKernel, (calls, { dy, x, sofar }) => {
    const gradient = product(calls, rows(calls, dy), rows(calls, x), true, false);
    return [sofar === undefined ? gradient : calls.add(calls.input(sofar), gradient)];
  });

  const grouped = (calls: Calls, x: Tensor, experts: number): Handle => {
    const width = x.shape[x.rank - 1] as number;
    return calls.reshape(calls.input(x), [experts, x.size / width / experts, width]);
  };

  registerTensorflowKernel(groupedLinearKernel, (calls, { x, weight }, { experts }) => {
    const y = product(calls, grouped(calls, x, experts), grouped(calls, weight, experts), false, true);
    return [calls.reshape(y, [...x.shape.slice(0, -1), (weight.shape[0] as number) / experts])];
  });

  registerTensorflowKernel(groupedLinearGradInputKernel, (calls, { dy, weight }, { experts }) => {
    const dx = product(calls, grouped(calls, dy, experts), grouped(calls, weight, experts), false, false);
    return [calls.reshape(dx, [...dy.shape.slice(0, -1), weight.shape[1] as number])];
  });

  registerTensorflowKernel(groupedLinearGradWeightKernel, (calls, { dy, x, sofar }, { experts }) => {
    const ofExperts = product(calls, grouped(calls, dy, experts), grouped(calls, x, experts), true, false);
    const [, out, width] = ofExperts.shape as [number, number, number];
    const gradient = calls.reshape(ofExperts, [experts * out, width]);
    return [sofar === undefined ? gradient : calls.add(calls.input(sofar), gradient)];
  });
}
