/** Linear, its gradients and the bias on wasm: products without transpose flags; the smaller operand is transposed first. */
import { reshape, type Tensor } from '@tensorflow/tfjs-core';
import { biasGradKernel, biasKernel } from '../../ops/bias.js';
import { linearGradInputKernel, linearGradWeightKernel, linearKernel } from '../../ops/linear.js';
import { scope } from '../../ops/scope.js';
import { type Heap, product, transposeInto, wasmKernel } from './heap.js';

/** A tensor [.., D] as a matrix [rows, D], without a copy. */
export function matrix(x: Tensor): Tensor {
  const columns = x.shape[x.rank - 1] as number;
  return reshape(x, [x.size / columns, columns]);
}

/** The transpose of a matrix, as a new tensor. */
export function transposed(heap: Heap, x: Tensor): Tensor {
  const [rows, columns] = x.shape as [number, number];
  const target = heap.make([columns, rows]);
  transposeInto(heap.floats(x), heap.floats(target), rows, columns);
  return target;
}

const linear = wasmKernel(linearKernel, (heap, { x, weight }, { alpha }) => [
  scaled(heap, multiplied(heap, x, weight), alpha),
]);

const linearGradInput = wasmKernel(linearGradInputKernel, (heap, { dy, weight }, { alpha }) => [
  scaled(heap, gradInput(dy, weight), alpha),
]);

const linearGradWeight = wasmKernel(linearGradWeightKernel, (heap, { dy, x, gradAccum }, { alpha }) =>
  scope(() => {
    const gradient = scaled(heap, gradWeight(heap, matrix(dy), matrix(x)), alpha);
    return [gradAccum === undefined ? gradient : addInto(heap, gradAccum, gradient)];
  }),
);

const bias = wasmKernel(biasKernel, (heap, { x, bias }) => {
  const y = heap.make(x.shape);
  const [from, to, b] = [heap.floats(x), heap.floats(y), heap.floats(bias)];
  for (let at = 0; at < from.length; at += b.length) {
    for (let d = 0; d < b.length; d++) to[at + d] = (from[at + d] as number) + (b[d] as number);
  }
  return [y];
});

const biasGrad = wasmKernel(biasGradKernel, (heap, { dy }, { width }) => {
  const db = heap.make([width]);
  const from = heap.floats(dy);
  const sums = new Float64Array(width);
  for (let at = 0; at < from.length; at += width) {
    for (let d = 0; d < width; d++) sums[d] = (sums[d] as number) + (from[at + d] as number);
  }
  heap.floats(db).set(sums);
  return [db];
});

/** α·x, in the memory of a product x. */
export function scaled(heap: Heap, x: Tensor, alpha: number): Tensor {
  if (alpha === 1) return x;
  const values = heap.floats(x);
  for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) * alpha;
  return x;
}

/** x·weightᵀ. x [.., in], weight [out, in] → [.., out] */
export function multiplied(heap: Heap, x: Tensor, weight: Tensor): Tensor {
  return scope(() => {
    const [out, columns] = weight.shape as [number, number];
    const rows = x.size / columns;
    // For few rows, as in decoding, transposing x and y is cheaper than transposing the weight.
    const y =
      rows * (columns + out) < columns * out
        ? transposed(heap, product(weight, transposed(heap, matrix(x))))
        : product(matrix(x), transposed(heap, weight));
    return reshape(y, [...x.shape.slice(0, -1), out]);
  });
}

/** dy·weight. dy [.., out], weight [out, in] → [.., in] */
export function gradInput(dy: Tensor, weight: Tensor): Tensor {
  return scope(() =>
    reshape(product(matrix(dy), weight), [...dy.shape.slice(0, -1), weight.shape[1] as number]),
  );
}

/** gradAccum + addend, in the memory of gradAccum. */
export function addInto(heap: Heap, gradAccum: Tensor, addend: Tensor): Tensor {
  const total = heap.reuse(gradAccum);
  const [sum, terms] = [heap.floats(total), heap.floats(addend)];
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (terms[i] as number);
  return total;
}

/** dyᵀ·x, computed as (xᵀ·dy)ᵀ if x is narrower, so that less is transposed. dy [M, out], x [M, in] → [out, in] */
export function gradWeight(heap: Heap, dy: Tensor, x: Tensor): Tensor {
  return (dy.shape[1] as number) <= (x.shape[1] as number)
    ? product(transposed(heap, dy), x)
    : transposed(heap, product(transposed(heap, x), dy));
}

export const linearKernels = [linear, linearGradInput, linearGradWeight, bias, biasGrad];
