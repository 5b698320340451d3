/** Linear and GroupedLinear with their gradients on TensorFlow: one product each, in fp32 or bf16. */
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
  type Dtype,
  type Handle,
  lastUse,
  type Operand,
  tensorflowKernel,
} from './calls.js';

/** The precision of matrix products in this process. */
let productPrecision: Precision = 'fp32';

/** The type to which the operands of a product are rounded; null: not rounded. */
const OPERAND_TYPES: Record<Precision, Dtype | null> = { fp32: null, bf16: DTYPE.bfloat16 };

/** Sets the precision of matrix products from now on. */
export function setProductPrecision(precision: Precision): void {
  productPrecision = precision;
}

const linear = tensorflowKernel(linearKernel, (calls, { x, weight }, { alpha }) => {
  const y = scaled(calls, product(calls, calls.matrix(x), calls.input(weight), false, true), alpha);
  return [calls.reshape(y, [...x.shape.slice(0, -1), weight.shape[0]])];
});

const linearGradInput = tensorflowKernel(linearGradInputKernel, (calls, { dy, weight }, { alpha }) => {
  const dx = scaled(calls, product(calls, calls.matrix(dy), calls.input(weight), false, false), alpha);
  return [calls.reshape(dx, [...dy.shape.slice(0, -1), weight.shape[1] as number])];
});

const linearGradWeight = tensorflowKernel(
  linearGradWeightKernel,
  (calls, { dy, x, gradAccum }, { alpha }) => {
    const gradient = scaled(calls, transposedProduct(calls, calls.matrix(dy), calls.matrix(x)), alpha);
    return [gradAccum === undefined ? gradient : calls.add(calls.input(gradAccum), gradient)];
  },
);

const groupedLinear = tensorflowKernel(groupedLinearKernel, (calls, { x, weight }, { experts, alpha }) => {
  const y = scaled(calls, expertProducts(calls, experts, x, weight, false, true), alpha);
  return [calls.reshape(y, [...x.shape.slice(0, -1), weight.shape[0] / experts])];
});

const groupedLinearGradInput = tensorflowKernel(
  groupedLinearGradInputKernel,
  (calls, { dy, weight }, { experts, alpha }) => {
    const dx = scaled(calls, expertProducts(calls, experts, dy, weight, false, false), alpha);
    return [calls.reshape(dx, [...dy.shape.slice(0, -1), weight.shape[1] as number])];
  },
);

const groupedLinearGradWeight = tensorflowKernel(
  groupedLinearGradWeightKernel,
  (calls, { dy, x, gradAccum }, { experts, alpha }) => {
    const matrices = scaled(calls, expertProducts(calls, experts, dy, x, true, false), alpha);
    const [, out, width] = matrices.shape as [number, number, number];
    const gradient = calls.reshape(matrices, [experts * out, width]);
    return [gradAccum === undefined ? gradient : calls.add(calls.input(gradAccum), gradient)];
  },
);

/** α·y for a product y. */
function scaled(calls: Calls, y: Handle, alpha: number): Handle {
  return alpha === 1 ? y : calls.scale(lastUse(y), alpha);
}

/** aᵀ·b with the narrower matrix first, which is a quarter faster; transposing the small result costs little. */
function transposedProduct(calls: Calls, a: Handle, b: Handle): Handle {
  return (a.shape[1] as number) <= (b.shape[1] as number)
    ? product(calls, a, b, true, false)
    : calls.transpose(lastUse(product(calls, b, a, true, false)), [1, 0]);
}

/** One product per expert, as a batch: a and b contain the rows of one expert after another. */
function expertProducts(
  calls: Calls,
  experts: number,
  a: Tensor,
  b: Tensor,
  transposeA: boolean,
  transposeB: boolean,
): Handle {
  const matrices = [a, b].map((x) => {
    const width = x.shape[x.rank - 1] as number;
    return calls.reshape(calls.input(x), [experts, x.size / width / experts, width]);
  });
  return product(calls, ...(matrices as [Handle, Handle]), transposeA, transposeB, batched);
}

/** A product in the process's precision: under bf16 the operands are rounded and the result is float32 again. */
function product(
  calls: Calls,
  a: Handle,
  b: Handle,
  transposeA: boolean,
  transposeB: boolean,
  by = multiply,
): Handle {
  const type = OPERAND_TYPES[productPrecision];
  if (type === null) return by(calls, a, b, transposeA, transposeB);
  const [left, right] = [calls.cast(a, type), calls.cast(b, type)];
  return calls.cast(lastUse(by(calls, lastUse(left), lastUse(right), transposeA, transposeB)), DTYPE.float32);
}

/**
 * A product by the faster operation: a batched product of batch 1 takes up to 8% less time for a·bᵀ and 7 to 12% more for
 * all others (2 cores, AVX-512, TensorFlow 2.21).
 */
function multiply(calls: Calls, a: Operand, b: Operand, transposeA: boolean, transposeB: boolean): Handle {
  return transposeB
    ? batched(calls, a, b, transposeA, transposeB)
    : calls.run('MatMul', [a, b], [bool('transpose_a', transposeA), bool('transpose_b', transposeB)]);
}

/** A product for each index of the leading dimensions. */
function batched(calls: Calls, a: Operand, b: Operand, transposeA: boolean, transposeB: boolean): Handle {
  return calls.run('BatchMatMulV2', [a, b], [bool('adj_x', transposeA), bool('adj_y', transposeB)]);
}

export const linearKernels = [
  linear,
  linearGradInput,
  linearGradWeight,
  groupedLinear,
  groupedLinearGradInput,
  groupedLinearGradWeight,
];
