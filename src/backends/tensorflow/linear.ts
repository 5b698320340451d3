/** Linear and its gradients on TensorFlow, of all experts at once, too: one product each; in bf16 where asked for. */
import type { Tensor } from '@tensorflow/tfjs-core';
import {
  groupedLinearGradInputKernel,
  groupedLinearGradWeightKernel,
  groupedLinearKernel,
} from '../../ops/grouped-linear.js';
import { linearGradInputKernel, linearGradWeightKernel, linearKernel } from '../../ops/linear.js';
import type { Precision } from '../precisions.js';
import {
  bool,
  type Calls,
  DTYPE,
  type Handle,
  last,
  type Operand,
  registerTensorflowKernel,
} from './calls.js';

/** `precision` is asked at every call: it is the process' choice, made when the backend starts. */
export function registerLinear(precision: () => Precision): void {
  const rows = (calls: Calls, x: Tensor): Handle => {
    const width = x.shape[x.rank - 1] as number;
    return x.rank === 2 ? calls.input(x) : calls.reshape(calls.input(x), [x.size / width, width]);
  };

  const product = (
    calls: Calls,
    a: Handle,
    b: Handle,
    transposeA: boolean,
    transposeB: boolean,
    by = multiply,
  ): Handle => {
    if (precision() === 'fp32') return by(calls, a, b, transposeA, transposeB);
    const [left, right] = [calls.cast(a, DTYPE.bfloat16), calls.cast(b, DTYPE.bfloat16)];
    return calls.cast(last(by(calls, last(left), last(right), transposeA, transposeB)), DTYPE.float32);
  };

  /** aᵀ·b with the narrower matrix first, where TensorFlow is a quarter faster; the transposed result is small. */
  const transposedProduct = (calls: Calls, a: Handle, b: Handle): Handle =>
    (a.shape[1] as number) <= (b.shape[1] as number)
      ? product(calls, a, b, true, false)
      : calls.transpose(last(product(calls, b, a, true, false)), [1, 0]);

  registerTensorflowKernel(linearKernel, (calls, { x, weight }) => {
    const y = product(calls, rows(calls, x), calls.input(weight), false, true);
    return [calls.reshape(y, [...x.shape.slice(0, -1), weight.shape[0] as number])];
  });

  registerTensorflowKernel(linearGradInputKernel, (calls, { dy, weight }) => {
    const dx = product(calls, rows(calls, dy), calls.input(weight), false, false);
    return [calls.reshape(dx, [...dy.shape.slice(0, -1), weight.shape[1] as number])];
  });

  registerTensorflowKernel(linearGradWeightKernel, (calls, { dy, x, gradAccum }) => {
    const gradient = transposedProduct(calls, rows(calls, dy), rows(calls, x));
    return [gradAccum === undefined ? gradient : calls.add(calls.input(gradAccum), gradient)];
  });

  const grouped = (calls: Calls, x: Tensor, experts: number): Handle => {
    const width = x.shape[x.rank - 1] as number;
    return calls.reshape(calls.input(x), [experts, x.size / width / experts, width]);
  };
  const ofExperts = (
    calls: Calls,
    experts: number,
    a: Tensor,
    b: Tensor,
    transposeA: boolean,
    transposeB: boolean,
  ): Handle => {
    const [left, right] = [grouped(calls, a, experts), grouped(calls, b, experts)];
    return product(calls, left, right, transposeA, transposeB, batched);
  };

  registerTensorflowKernel(groupedLinearKernel, (calls, { x, weight }, { experts }) => {
    const y = ofExperts(calls, experts, x, weight, false, true);
    return [calls.reshape(y, [...x.shape.slice(0, -1), (weight.shape[0] as number) / experts])];
  });

  registerTensorflowKernel(groupedLinearGradInputKernel, (calls, { dy, weight }, { experts }) => {
    const dx = ofExperts(calls, experts, dy, weight, false, false);
    return [calls.reshape(dx, [...dy.shape.slice(0, -1), weight.shape[1] as number])];
  });

  registerTensorflowKernel(groupedLinearGradWeightKernel, (calls, { dy, x, gradAccum }, { experts }) => {
    const matrices = ofExperts(calls, experts, dy, x, true, false);
    const [, out, width] = matrices.shape as [number, number, number];
    const gradient = calls.reshape(matrices, [experts * out, width]);
    return [gradAccum === undefined ? gradient : calls.add(calls.input(gradAccum), gradient)];
  });
}

/**
 * A product by the operation that is the faster: the batched one with a batch of one takes up to 8% less time for a·bᵀ,
 * and 7 to 12% more for everything else (two cores, AVX-512, TensorFlow 2.21).
 */
function multiply(calls: Calls, a: Operand, b: Operand, transposeA: boolean, transposeB: boolean): Handle {
  return transposeB
    ? batched(calls, a, b, transposeA, transposeB)
    : calls.run('MatMul', [a, b], [bool('transpose_a', transposeA), bool('transpose_b', transposeB)]);
}

/** A product for each of the leading dimensions. */
function batched(calls: Calls, a: Operand, b: Operand, transposeA: boolean, transposeB: boolean): Handle {
  return calls.run('BatchMatMulV2', [a, b], [bool('adj_x', transposeA), bool('adj_y', transposeB)]);
}
