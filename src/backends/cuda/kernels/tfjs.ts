/** The kernels of tfjs itself that training and evaluation call, in float32; none is on a hot path. */
import { type DataType, type Tensor, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { KernelInputs } from '../../../ops/kernel.js';
import { type Call, type CudaKernel, sizeOf } from '../driver/call.js';
import { address, float, long } from '../driver/kernel-library.js';
import type { Storage } from '../driver/storage.js';
import { elementThreads, vectorOf } from './launch-shapes.js';
import { activationProduct } from './products.js';
import { stridedCopy, stridesOf } from './strided-copy.js';
import { sumRows } from './sums.js';

/** Codes of the operations in elementwise.cu, and whether the result is a boolean. */
const BINARY_OPERATIONS = {
  Add: { code: 0, isBoolean: false },
  Sub: { code: 1, isBoolean: false },
  Multiply: { code: 2, isBoolean: false },
  RealDiv: { code: 3, isBoolean: false },
  Greater: { code: 4, isBoolean: true },
  Equal: { code: 5, isBoolean: true },
} as const;
type BinaryOperation = keyof typeof BINARY_OPERATIONS;

const reshape: CudaKernel = {
  kernelName: 'Reshape',
  compute: (call, { x }, attrs) => {
    const { shape } = attrs as { shape: number[] };
    const { size } = x as Tensor;
    return alias(call, x as Tensor, util.inferFromImplicitShape(shape, size));
  },
};

const fill: CudaKernel = {
  kernelName: 'Fill',
  compute: (call, _, attrs) => {
    const { shape, value, dtype } = attrs as { shape: number[]; value: number; dtype?: DataType };
    return filled(call, shape, value, dtype ?? 'float32');
  },
};

const addN: CudaKernel = {
  kernelName: 'AddN',
  compute: (call, inputs) => {
    const [first, ...rest] = Object.values(inputs) as [Tensor, ...Tensor[]];
    return rest.reduce<Tensor>((sum, next) => binary(call, 'Add', sum, next), first.clone());
  },
};

/** A negative size extends to the end of its axis. */
const sliceKernel: CudaKernel = {
  kernelName: 'Slice',
  compute: (call, inputs, attrs) => {
    const { begin, size } = attrs as { begin: number[]; size: number[] };
    const x = inputs.x as Tensor;
    const sides = size.map((side, i) => (side < 0 ? (x.shape[i] as number) - (begin[i] as number) : side));
    return slice(call, x, begin, sides);
  },
};

/** The product of two matrices, to which benchmarks compare. */
const batchMatMul: CudaKernel = {
  kernelName: 'BatchMatMul',
  compute: (call, inputs, attrs) => {
    const [a, b] = [inputs.a as Tensor, inputs.b as Tensor];
    const { transposeA, transposeB } = attrs as { transposeA: boolean; transposeB: boolean };
    util.assert(
      isMatrix(a) && isMatrix(b),
      () => `the cuda backend multiplies single matrices, not [${a.shape}] by [${b.shape}]`,
    );
    const [rows, columns] = [a.shape.at(-2) as number, a.shape.at(-1) as number];
    const [m, k] = transposeA ? [columns, rows] : [rows, columns];
    const n = (transposeB ? b.shape.at(-2) : b.shape.at(-1)) as number;
    const y = call.makeActivation([1, m, n]);
    const product = activationProduct(call, { m, n, k, transposeA, transposeB });
    call.backend.cublas.multiply(product, call.activation(a), call.activation(b), call.at(y));
    return y;
  },
};

export const tfjsKernels: CudaKernel[] = [
  { kernelName: 'Identity', compute: (call, { x }) => alias(call, x as Tensor, (x as Tensor).shape) },
  reshape,
  {
    kernelName: 'Cast',
    compute: (call, { x }, attrs) => cast(call, x as Tensor, (attrs as { dtype: DataType }).dtype),
  },
  fill,
  { kernelName: 'ZerosLike', compute: (call, { x }) => filledLike(call, x as Tensor, 0) },
  { kernelName: 'OnesLike', compute: (call, { x }) => filledLike(call, x as Tensor, 1) },
  ...(Object.keys(BINARY_OPERATIONS) as BinaryOperation[]).map((kernelName) => ({
    kernelName,
    compute: (call: Call, { a, b }: KernelInputs) => binary(call, kernelName, a as Tensor, b as Tensor),
  })),
  addN,
  sliceKernel,
  {
    kernelName: 'Concat',
    compute: (call, inputs, attrs) =>
      concat(call, Object.values(inputs) as Tensor[], (attrs as { axis: number }).axis),
  },
  { kernelName: 'Sum', compute: (call, { x }, attrs) => reduce(call, x as Tensor, attrs, () => 1) },
  {
    kernelName: 'Mean',
    compute: (call, { x }, attrs) => reduce(call, x as Tensor, attrs, (width) => 1 / width),
  },
  batchMatMul,
];

/** Another handle on a tensor's elements. */
function alias(call: Call, x: Tensor, shape: number[], dtype: DataType = x.dtype): Tensor {
  call.backend.incRef(x.dataId);
  return { dataId: x.dataId, shape, dtype } as TensorInfo as Tensor;
}

function cast(call: Call, x: Tensor, dtype: DataType): Tensor {
  // A boolean is stored as a float: 0 or 1.
  const stored = (type: DataType) => (type === 'int32' ? 'int32' : 'float32');
  if (stored(x.dtype) === stored(dtype)) {
    if (dtype === x.dtype || dtype === 'float32') return alias(call, x, x.shape, dtype);
    throw new Error(`the cuda backend does not cast ${x.dtype} to ${dtype}`);
  }
  const y = call.make(x.shape, stored(dtype), dtype);
  call.backend.convert(
    x.dtype === 'int32' ? call.int(x) : call.float(x),
    stored(x.dtype),
    call.at(y),
    stored(dtype),
    x.size,
  );
  return y;
}

function filledLike(call: Call, { shape, dtype }: Tensor, value: number): Tensor {
  return filled(call, shape, value, dtype);
}

function filled(call: Call, shape: number[], value: number, dtype: DataType): Tensor {
  const storage = dtype === 'int32' ? 'int32' : 'float32';
  const x = call.make(shape, storage, dtype);
  if (value === 0) {
    call.backend.driver.zero(call.at(x), 4 * x.size);
  } else {
    util.assert(storage === 'float32', () => 'the cuda backend fills integer tensors with 0 only');
    call.launch('elementwise', 'fillFloat', elementThreads(x.size), [
      address(call.at(x)),
      float(value),
      long(x.size),
    ]);
  }
  return x;
}

/** An elementwise operation on two tensors of one shape, or on a tensor and a single number. */
function binary(call: Call, name: BinaryOperation, a: Tensor, b: Tensor): Tensor {
  const { code, isBoolean } = BINARY_OPERATIONS[name];
  const fits = util.arraysEqual(a.shape, b.shape) || a.size === 1 || b.size === 1;
  util.assert(
    fits,
    () => `${name} on cuda needs equal shapes or a single number, not [${a.shape}] and [${b.shape}]`,
  );
  const shape = b.size === 1 ? a.shape : b.shape;
  const size = sizeOf(shape);
  // Sums of gradients stay in bf16.
  const inBf16 = [a, b].every((x) => call.backend.dataOf(x).storage === 'bfloat16');
  if (inBf16 && name === 'Add' && a.size === b.size) {
    const sum = call.makeActivation(shape);
    const vector = vectorOf(size);
    call.launch('elementwise', `residual${vector}`, elementThreads(size, vector), [
      address(call.activation(a)),
      address(call.activation(b)),
      address(call.at(sum)),
      long(size),
    ]);
    return sum;
  }
  const y = call.make(shape, 'float32', isBoolean ? 'bool' : 'float32');
  call.launch('elementwise', 'binaryFloat', elementThreads(size), [
    address(call.float(a)),
    address(call.float(b)),
    address(call.at(y)),
    long(size),
    code,
    a.size === 1 ? 0 : 1,
    b.size === 1 ? 0 : 1,
  ]);
  return y;
}

function slice(call: Call, x: Tensor, begin: number[], size: number[]): Tensor {
  const { storage } = call.backend.dataOf(x);
  const y = call.make(size, storage, x.dtype);
  const strides = stridesOf(x.shape);
  const first = begin.reduce((sum, at, i) => sum + at * (strides[i] as number), 0);
  stridedCopy(
    call,
    storage,
    { at: call.at(x), first, strides },
    { at: call.at(y), first: 0, strides: stridesOf(size) },
    size,
  );
  return y;
}

/** Concatenates tensors along an axis; the result is stored in bf16 if one of them is. */
function concat(call: Call, parts: Tensor[], axis: number): Tensor {
  const [head] = parts as [Tensor, ...Tensor[]];
  const along = util.parseAxisParam(axis, head.shape)[0] as number;
  const storages = parts.map((part) => call.backend.dataOf(part).storage);
  const storage = storages.find((each) => each === 'bfloat16') ?? (storages[0] as Storage);
  const shape = [...head.shape];
  shape[along] = parts.reduce((sum, part) => sum + (part.shape[along] as number), 0);
  const y = call.make(shape, storage, head.dtype);
  const strides = stridesOf(shape);
  let first = 0;
  for (const part of parts) {
    const from = { at: call.stored(part, storage), first: 0, strides: stridesOf(part.shape) };
    stridedCopy(call, storage, from, { at: call.at(y), first, strides }, part.shape);
    first += (part.shape[along] as number) * (strides[along] as number);
  }
  return y;
}

/** A sum over the last axes, times a factor. */
function reduce(call: Call, x: Tensor, attrs: object, scale: (width: number) => number): Tensor {
  const { axis, keepDims } = attrs as { axis?: number | number[]; keepDims?: boolean };
  const axes = util.parseAxisParam(axis ?? x.shape.map((_, i) => i), x.shape);
  const first = x.rank - axes.length;
  util.assert(
    axes.every((each, i) => each === first + i),
    () => 'the cuda backend sums over the last axes only',
  );
  const kept = x.shape.slice(0, first);
  const width = sizeOf(x.shape.slice(first));
  const y = call.make(keepDims ? [...kept, ...axes.map(() => 1)] : kept, 'float32');
  sumRows(call, call.float(x), call.at(y), { rows: sizeOf(kept), width, scale: scale(width) });
  return y;
}

/** Whether all dimensions but the last two are 1. */
function isMatrix(x: Tensor): boolean {
  return x.shape.slice(0, -2).every((side) => side === 1);
}
