/**
 * Kernels as sequences of TensorFlow operations, called by name. Intermediate results are never tfjs tensors; they are freed
 * when the kernel ends or earlier.
 */
import { type KernelFunc, registerKernel, type Tensor, type TensorInfo } from '@tensorflow/tfjs-core';
import type { Kernel, KernelInputs } from '../../ops/kernel.js';

export const TENSORFLOW = 'tensorflow';

/** TensorFlow's codes for element types. */
export const DTYPE = { float32: 1, int32: 3, bfloat16: 14 } as const;
export type Dtype = (typeof DTYPE)[keyof typeof DTYPE];

/** A TensorFlow tensor. */
export interface Handle {
  id: number;
  shape: number[];
  dtype: number;
}

/** An operand that is freed after the call, so that the next result can reuse its memory while that is in the CPU's cache. */
interface LastUse {
  lastUse: Handle;
}
export type Operand = Handle | LastUse;

export const lastUse = (handle: Handle): LastUse => ({ lastUse: handle });
const handleOf = (operand: Operand): Handle => ('lastUse' in operand ? operand.lastUse : operand);

export interface Attribute {
  name: string;
  type: number;
  value: number | boolean | string;
}

/** The native binding, which publishes no types. */
interface Binding {
  executeOp(name: string, attrs: Attribute[], inputs: number[], outputs: number): Handle[];
  createTensor(shape: number[], dtype: number, values: Float32Array | Int32Array): number;
  tensorDataSync(id: number): Float32Array | Int32Array;
  deleteTensor(id: number): void;
}

/** The part of the package's backend that kernels use; its published types lack most of it. */
export interface NodeBackend {
  binding: Binding;
  isUsingGpuDevice: boolean;
  tensorMap: { get(dataId: object): { id: number } };
  refCount(dataId: object): number;
  getInputTensorIds(tensors: TensorInfo[]): number[];
  createOutputTensor(handle: Handle): Tensor;
}

export const bool = (name: string, value: boolean): Attribute => ({ name, type: 3, value });
export const int = (name: string, value: number): Attribute => ({ name, type: 1, value });
export const text = (name: string, value: string): Attribute => ({ name, type: 0, value });
export const dtype = (name: string, value: Dtype): Attribute => ({ name, type: 4, value });
export const shapeOf = (name: string, value: number[]) => ({ name, type: 5, value }) as unknown as Attribute;

/** An optional input of one of the project's own operations: no or one operand, and the number of operands as an attribute. */
export function optional(operand: Operand | undefined): { operands: Operand[]; attrs: Attribute[] } {
  const operands = operand === undefined ? [] : [operand];
  return { operands, attrs: [int('n', operands.length)] };
}

/** Scalars, shapes and axes by value: few and small, so they are kept until the process exits. */
const constantsOf = new WeakMap<NodeBackend, Map<string, Handle>>();

/** The operations that one kernel call runs, and the tensors that they create. */
export class Calls {
  private readonly frames: Handle[][] = [[]];
  private readonly constants: Map<string, Handle>;

  constructor(readonly backend: NodeBackend) {
    this.constants = constantsOf.get(backend) ?? new Map();
    constantsOf.set(backend, this.constants);
  }

  /** A tfjs tensor as an operand. The handle belongs to the tensor and is not freed here. */
  input(tensor: TensorInfo): Handle {
    const [id] = this.backend.getInputTensorIds([tensor]) as [number];
    return { id, shape: tensor.shape, dtype: tensor.dtype === 'int32' ? DTYPE.int32 : DTYPE.float32 };
  }

  /** A tfjs tensor [.., D] as a matrix [rows, D], without a copy. */
  matrix(x: TensorInfo): Handle {
    const columns = x.shape.at(-1) as number;
    const rows = x.shape.slice(0, -1).reduce((product, side) => product * side, 1);
    return x.shape.length === 2 ? this.input(x) : this.reshape(this.input(x), [rows, columns]);
  }

  /** A consumed tfjs tensor, for an operation that works in place: the tensor itself, or a copy if its memory is shared. */
  consumed(tensor: TensorInfo): Handle {
    const handle = this.input(tensor);
    return this.backend.refCount(tensor.dataId) === 1 ? handle : this.run('DeepCopy', [handle]);
  }

  /** Runs an operation with several results. */
  runAll(name: string, inputs: Operand[], attrs: Attribute[], outputs: number): Handle[] {
    const ids = inputs.map((operand) => handleOf(operand).id);
    const made = this.backend.binding.executeOp(name, attrs, ids, outputs);
    this.frames.at(-1)?.push(...made);
    for (const operand of inputs) if ('lastUse' in operand) this.drop(operand.lastUse);
    return made;
  }

  /** Runs an operation with one result. */
  run(name: string, inputs: Operand[], attrs: Attribute[] = []): Handle {
    return this.runAll(name, inputs, attrs, 1)[0] as Handle;
  }

  /** Frees the tensors that `body` creates, except those that it returns. */
  scope<R extends Handle | Handle[]>(body: () => R): R {
    const made: Handle[] = [];
    this.frames.push(made);
    try {
      const result = body();
      const kept: Handle[] = Array.isArray(result) ? result : [result];
      this.frames.at(-2)?.push(...made.filter((handle) => kept.includes(handle)));
      this.free(made.filter((handle) => !kept.includes(handle)));
      made.length = 0;
      return result;
    } finally {
      this.frames.pop();
      this.free(made);
    }
  }

  /** Frees a tensor before its scope ends. */
  drop(handle: Handle): void {
    for (const made of this.frames) {
      const at = made.indexOf(handle);
      if (at >= 0) this.free(made.splice(at, 1));
    }
  }

  /** Takes ownership of a handle that was created elsewhere. */
  own(handle: Handle): Handle {
    this.frames.at(-1)?.push(handle);
    return handle;
  }

  /** Ends the kernel: returns results as tfjs tensors and frees all others. */
  finish(results: readonly Handle[]): Tensor[] {
    const [made] = this.frames as [Handle[]];
    this.free(made.filter((handle) => !results.includes(handle)));
    made.length = 0;
    return results.map((handle) => this.backend.createOutputTensor(handle));
  }

  /** Ends a kernel that failed: frees everything. */
  abandon(): void {
    for (const made of this.frames) this.free(made);
    this.frames.length = 0;
  }

  /** A float32 scalar. */
  float32(value: number): Handle {
    return this.constant(`float ${value}`, () => Float32Array.of(value), []);
  }

  /** An int32 scalar. */
  int32(value: number): Handle {
    return this.constant(`int ${value}`, () => Int32Array.of(value), []);
  }

  /** An int32 vector, such as a shape or axes. */
  vector(values: number[]): Handle {
    return this.constant(values.join(), () => Int32Array.from(values), [values.length]);
  }

  add = (a: Operand, b: Operand): Handle => this.run('AddV2', [a, b]);
  sub = (a: Operand, b: Operand): Handle => this.run('Sub', [a, b]);
  mul = (a: Operand, b: Operand): Handle => this.run('Mul', [a, b]);
  scale = (a: Operand, by: number): Handle => this.mul(a, this.float32(by));

  /** A view in another shape, without a copy. */
  reshape(x: Operand, shape: number[]): Handle {
    return this.run('Reshape', [x, this.vector(shape)]);
  }

  transpose(x: Operand, axes: number[]): Handle {
    return this.run('Transpose', [x, this.vector(axes)]);
  }

  /** Sum, Mean or Max over one axis, which is kept with length 1 if `keep`, else removed. */
  reduce(name: 'Sum' | 'Mean' | 'Max', x: Operand, axis: number, keep = false): Handle {
    return this.run(name, [x, this.vector([axis])], [bool('keep_dims', keep)]);
  }

  cast(x: Operand, to: Dtype): Handle {
    return this.run('Cast', [x], [dtype('DstT', to)]);
  }

  zeros(shape: number[]): Handle {
    return this.run('Fill', [this.vector(shape), this.float32(0)]);
  }

  concat(parts: Operand[], axis: number): Handle {
    const [first] = parts as [Operand];
    const attrs = [int('N', parts.length), dtype('T', handleOf(first).dtype as Dtype)];
    return parts.length === 1 ? handleOf(first) : this.run('ConcatV2', [...parts, this.int32(axis)], attrs);
  }

  /** The sum of tensors of the same shape, in order. */
  addAll(parts: Operand[]): Handle {
    const attrs = [int('N', parts.length), dtype('T', DTYPE.float32)];
    return parts.length === 1 ? handleOf(parts[0] as Operand) : this.run('AddN', parts, attrs);
  }

  /** x[start..start + size] along an axis. */
  slice(x: Handle, axis: number, start: number, size: number): Handle {
    const begin = x.shape.map((_, i) => (i === axis ? start : 0));
    const sizes = x.shape.map((side, i) => (i === axis ? size : side));
    return this.run('Slice', [x, this.vector(begin), this.vector(sizes)]);
  }

  /** Splits along the first axis, without a copy if the parts are aligned. */
  split(x: Handle, sizes: number[]): Handle[] {
    if (sizes.length === 1) return [x];
    return this.runAll(
      'SplitV',
      [x, this.vector(sizes), this.int32(0)],
      [int('num_split', sizes.length)],
      sizes.length,
    );
  }

  /** The rows of x at the indices: x [n, ..], indices [..] → [.., ..] */
  gatherRows(x: Handle, indices: Handle): Handle {
    return this.run('GatherV2', [x, indices, this.int32(0)]);
  }

  private free(handles: Handle[]): void {
    for (const { id } of handles) this.backend.binding.deleteTensor(id);
  }

  private constant(key: string, make: () => Float32Array | Int32Array, shape: number[]): Handle {
    const known = this.constants.get(key);
    if (known !== undefined) return known;
    const values = make();
    const type = values instanceof Int32Array ? DTYPE.int32 : DTYPE.float32;
    const handle = { id: this.backend.binding.createTensor(shape, type, values), shape, dtype: type };
    this.constants.set(key, handle);
    return handle;
  }
}

/** A kernel of the tensorflow backend, by the name under which tfjs runs it. */
export interface TensorflowKernel {
  readonly kernelName: string;
  readonly compute: (calls: Calls, inputs: KernelInputs, attrs: object) => readonly Handle[];
}

/**
 * The tensorflow implementation of an op's kernel; the types are those of the kernel's definition. `compute` returns handles
 * that have the shapes of the kernel's outputs.
 */
export function tensorflowKernel<I extends KernelInputs, A extends object, O extends Tensor[]>(
  { kernelName }: Kernel<I, A, O>,
  compute: (calls: Calls, inputs: I, attrs: A) => { [K in keyof O]: Handle },
): TensorflowKernel {
  return { kernelName, compute: (calls, inputs, attrs) => compute(calls, inputs as I, attrs as A) };
}

/** Registers kernels with tfjs for the tensorflow backend. */
export function registerTensorflowKernels(kernels: readonly TensorflowKernel[]): void {
  for (const { kernelName, compute } of kernels) {
    const kernelFunc: KernelFunc = ({ inputs, attrs, backend }) => {
      const calls = new Calls(backend as unknown as NodeBackend);
      try {
        return calls.finish(compute(calls, inputs as unknown as KernelInputs, attrs as unknown as object));
      } catch (error) {
        calls.abandon();
        throw error;
      }
    };
    registerKernel({ kernelName, backendName: TENSORFLOW, kernelFunc });
  }
}
