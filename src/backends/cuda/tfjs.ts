/** tfjs' own kernels on cuda, as far as the training loop and the evaluation call them: all in float32, none in a hot place. */
import { type DataType, type Tensor, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { Storage } from './backend.js';
import { type Call, registerNamed, sizeOf } from './call.js';
import { address, float, long } from './kernels.js';
import { stridedCopy, stridesOf } from './strided-copy.js';
import { sumRows } from './sums.js';

const THREADS = 256;
/** What kernels/elementwise.cu calls them, and whether the result is a truth value. */
const BINARY: Record<string, { operation: number; truth: boolean }> = {
  Add: { operation: 0, truth: false },
  Sub: { operation: 1, truth: false },
  Multiply: { operation: 2, truth: false },
  RealDiv: { operation: 3, truth: false },
  Greater: { operation: 4, truth: true },
  Equal: { operation: 5, truth: true },
};

export function registerTfjs(): void {
  registerNamed('Identity', (call, inputs) => alias(call, inputs.x as Tensor, (inputs.x as Tensor).shape));
  registerNamed('Reshape', (call, inputs, attrs) => {
    const x = inputs.x as Tensor;
    const { shape } = attrs as { shape: number[] };
    return alias(call, x, util.inferFromImplicitShape(shape, x.size));
  });
  registerNamed('Cast', (call, inputs, attrs) =>
    cast(call, inputs.x as Tensor, (attrs as { dtype: DataType }).dtype),
  );

  registerNamed('Fill', (call, _, attrs) => {
    const { shape, value, dtype } = attrs as { shape: number[]; value: number; dtype?: DataType };
    return filled(call, shape, value, dtype ?? 'float32');
  });
  registerNamed('ZerosLike', (call, inputs) => {
    const { shape, dtype } = inputs.x as Tensor;
    return filled(call, shape, 0, dtype);
  });
  registerNamed('OnesLike', (call, inputs) => {
    const { shape, dtype } = inputs.x as Tensor;
    return filled(call, shape, 1, dtype);
  });

  for (const [name, { operation, truth }] of Object.entries(BINARY)) {
    registerNamed(name, (call, inputs) =>
      binary(call, name, operation, truth, inputs.a as Tensor, inputs.b as Tensor),
    );
  }
  registerNamed('AddN', (call, inputs) => {
    const [first, ...rest] = Object.values(inputs) as [Tensor, ...Tensor[]];
    return rest.reduce<Tensor>((sum, next) => binary(call, 'AddN', 0, false, sum, next), first.clone());
  });

  registerNamed('Slice', (call, inputs, attrs) => {
    const { begin, size } = attrs as { begin: number[]; size: number[] };
    const x = inputs.x as Tensor;
    return slice(
      call,
      x,
      begin,
      size.map((side, i) => (side < 0 ? (x.shape[i] as number) - (begin[i] as number) : side)),
    );
  });
  registerNamed('Concat', (call, inputs, attrs) => {
    const { axis } = attrs as { axis: number };
    return concat(call, Object.values(inputs) as Tensor[], axis);
  });

  registerNamed('Sum', (call, inputs, attrs) => reduce(call, inputs.x as Tensor, attrs, () => 1));
  registerNamed('Mean', (call, inputs, attrs) =>
    reduce(call, inputs.x as Tensor, attrs, (width) => 1 / width),
  );
}

/** Another handle on a tensor's elements. */
function alias(call: Call, x: Tensor, shape: number[], dtype: DataType = x.dtype): Tensor {
  call.backend.incRef(x.dataId);
  return { dataId: x.dataId, shape, dtype } as TensorInfo as Tensor;
}

function cast(call: Call, x: Tensor, dtype: DataType): Tensor {
  // A truth value is stored as a float: 0 or 1.
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

function filled(call: Call, shape: number[], value: number, dtype: DataType): Tensor {
  const storage = dtype === 'int32' ? 'int32' : 'float32';
  const x = call.make(shape, storage, dtype);
  if (value === 0) {
    call.backend.driver.zero(call.at(x), 4 * x.size);
  } else {
    util.assert(storage === 'float32', () => 'the cuda backend fills whole numbers with zeros alone');
    call.launch('elementwise', 'fillFloat', { grid: Math.ceil(x.size / THREADS), block: THREADS }, [
      address(call.at(x)),
      float(value),
      long(x.size),
    ]);
  }
  return x;
}

/** Two tensors of one shape, or one of them a single number. */
function binary(call: Call, name: string, operation: number, truth: boolean, a: Tensor, b: Tensor): Tensor {
  const fits = util.arraysEqual(a.shape, b.shape) || a.size === 1 || b.size === 1;
  util.assert(
    fits,
    () => `the cuda backend's ${name} takes equal shapes or a number, not [${a.shape}] and [${b.shape}]`,
  );
  const shape = b.size === 1 ? a.shape : b.shape;
  const size = sizeOf(shape);
  // Gradients that are added up stay stored as they are.
  const narrow = !truth && [a, b].every((x) => call.backend.dataOf(x).storage === 'bfloat16');
  if (narrow && operation === 0 && a.size === b.size) {
    const sum = call.makeActivation(shape);
    const vector = size % 8 === 0 ? 8 : 1;
    const grid = Math.ceil(size / (THREADS * vector));
    call.launch('elementwise', `residual${vector}`, { grid, block: THREADS }, [
      address(call.activation(a)),
      address(call.activation(b)),
      address(call.at(sum)),
      long(size),
    ]);
    return sum;
  }
  const y = call.make(shape, 'float32', truth ? 'bool' : 'float32');
  call.launch('elementwise', 'binaryFloat', { grid: Math.ceil(size / THREADS), block: THREADS }, [
    address(call.float(a)),
    address(call.float(b)),
    address(call.at(y)),
    long(size),
    operation,
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

/** Stored as activations are where any part is. */
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

/** Over the last axes, whichever they are. */
function reduce(call: Call, x: Tensor, attrs: object, scale: (width: number) => number): Tensor {
  const { axis, keepDims } = attrs as { axis?: number | number[]; keepDims?: boolean };
  const axes = util.parseAxisParam(axis ?? x.shape.map((_, i) => i), x.shape);
  const first = x.rank - axes.length;
  util.assert(
    axes.every((each, i) => each === first + i),
    () => 'the cuda backend sums over the last axes alone',
  );
  const kept = x.shape.slice(0, first);
  const width = sizeOf(x.shape.slice(first));
  const y = call.make(keepDims ? [...kept, ...axes.map(() => 1)] : kept, 'float32');
  sumRows(call, call.float(x), call.at(y), { rows: sizeOf(kept), width, scale: scale(width) });
  return y;
}
