/**
 * Kernels written as calls of TensorFlow's own operations by name: what they pass among each other never becomes a
 * tensor of tfjs, and is freed when the kernel ends or earlier.
 */
import { type KernelFunc, registerKernel, type Tensor, type TensorInfo } from '@tensorflow/tfjs-core';
import type { Kernel, KernelInputs } from '../../ops/kernel.js';

export const TENSORFLOW = 'tensorflow';

/** TensorFlow's numbers for types of elements. */
export const DTYPE = { float32: 1, int32: 3, bfloat16: 14 } as const;
type Dtype = (typeof DTYPE)[keyof typeof DTYPE];

/** A tensor of TensorFlow's. */
export interface Handle {
  id: number;
  shape: number[];
  dtype: number;
}

/** An operand that nobody reads afterwards: it is freed at once, and its memory, still in the cache, is used next. */
interface Last {
  last: Handle;
}
export type Operand = Handle | Last;

export const last = (handle: Handle): Last => ({ last: handle });
const handleOf = (operand: Operand): Handle => ('last' in operand ? operand.last : operand);

export interface Attribute {
  name: string;
  type: number;
  value: number | boolean | string;
}

/** The native binding; its types are not published. */
interface Binding {
  executeOp(name: string, attrs: Attribute[], inputs: number[], outputs: number): Handle[];
  createTensor(shape: number[], dtype: number, values: Float32Array | Int32Array): number;
  tensorDataSync(id: number): Float32Array | Int32Array;
  deleteTensor(id: number): void;
}

/** What kernels use of the package's backend; its own types leave most of it out. */
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

/** An input that one of the project's own operations may do without: its operands, and their number as an attribute. */
export function optional(operand: Operand | undefined): { given: Operand[]; attrs: Attribute[] } {
  const given = operand === undefined ? [] : [operand];
  return { given, attrs: [int('n', given.length)] };
}

/** Scalars, shapes and axes by what they hold: few and small, kept for the life of the process. */
const constantsOf = new WeakMap<NodeBackend, Map<string, Handle>>();

/** The calls of one kernel. */
export class Calls {
  private readonly frames: Handle[][] = [[]];
  private readonly constants: Map<string, Handle>;

  constructor(readonly backend: NodeBackend) {
    this.constants = constantsOf.get(backend) ?? new Map();
    constantsOf.set(backend, this.constants);
  }

  /** A tensor of tfjs as an operand. Its handle is the tensor's: it is not freed here. */
  input(tensor: TensorInfo): Handle {
    const [id] = this.backend.getInputTensorIds([tensor]) as [number];
    return { id, shape: tensor.shape, dtype: tensor.dtype === 'int32' ? DTYPE.int32 : DTYPE.float32 };
  }

  /** A tensor of tfjs that nobody reads again, for an operation that writes its result in its place. */
  dead(tensor: TensorInfo): Handle {
    const handle = this.input(tensor);
    return this.backend.refCount(tensor.dataId) === 1 ? handle : this.run('DeepCopy', [handle]);
  }

  /** Runs an operation of several results. */
  runAll(name: string, inputs: Operand[], attrs: Attribute[], outputs: number): Handle[] {
    const ids = inputs.map((operand) => handleOf(operand).id);
    const made = this.backend.binding.executeOp(name, attrs, ids, outputs);
    this.frames.at(-1)?.push(...made);
    for (const operand of inputs) if ('last' in operand) this.drop(operand.last);
    return made;
  }

  /** Runs an operation of one result. */
  run(name: string, inputs: Operand[], attrs: Attribute[] = []): Handle {
    return this.runAll(name, inputs, attrs, 1)[0] as Handle;
  }

  /** Frees what `body` makes, but for what it returns. */
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

  /** Frees one handle before its scope ends. */
  drop(handle: Handle): void {
    for (const made of this.frames) {
      const at = made.indexOf(handle);
      if (at >= 0) this.free(made.splice(at, 1));
    }
  }

  /** Makes a handle that came from elsewhere one of this kernel's. */
  own(handle: Handle): Handle {
    this.frames.at(-1)?.push(handle);
    return handle;
  }

  /** Gives results to tfjs and frees the rest: the end of a kernel. */
  finish(results: readonly Handle[]): Tensor[] {
    const [made] = this.frames as [Handle[]];
    this.free(made.filter((handle) => !results.includes(handle)));
    made.length = 0;
    return results.map((handle) => this.backend.createOutputTensor(handle));
  }

  /** Frees everything: a kernel that failed. */
  abandon(): void {
    for (const made of this.frames) this.free(made);
    this.frames.length = 0;
  }

  /** A float32 scalar. */
  scalar(value: number): Handle {
    return this.constant(`float ${value}`, () => Float32Array.of(value), []);
  }

  /** An int32 scalar. */
  whole(value: number): Handle {
    return this.constant(`int ${value}`, () => Int32Array.of(value), []);
  }

  /** An int32 vector: a shape, or axes. */
  vector(values: number[]): Handle {
    return this.constant(values.join(), () => Int32Array.from(values), [values.length]);
  }

  add = (a: Operand, b: Operand): Handle => this.run('AddV2', [a, b]);
  sub = (a: Operand, b: Operand): Handle => this.run('Sub', [a, b]);
  mul = (a: Operand, b: Operand): Handle => this.run('Mul', [a, b]);
  scale = (a: Operand, by: number): Handle => this.mul(a, this.scalar(by));

  /** The same elements in another shape, without a copy. */
  reshape(x: Operand, shape: number[]): Handle {
    return this.run('Reshape', [x, this.vector(shape)]);
  }

  transpose(x: Operand, axes: number[]): Handle {
    return this.run('Transpose', [x, this.vector(axes)]);
  }

  /** Sum, Mean or Max over one axis, which stays as a 1 where `keep` says so. */
  reduce(name: 'Sum' | 'Mean' | 'Max', x: Operand, axis: number, keep = false): Handle {
    return this.run(name, [x, this.vector([axis])], [bool('keep_dims', keep)]);
  }

  cast(x: Operand, to: Dtype): Handle {
    return this.run('Cast', [x], [dtype('DstT', to)]);
  }

  zeros(shape: number[]): Handle {
    return this.run('Fill', [this.vector(shape), this.scalar(0)]);
  }

  concat(parts: Operand[], axis: number): Handle {
    const [first] = parts as [Operand];
    const attrs = [int('N', parts.length), dtype('T', handleOf(first).dtype as Dtype)];
    return parts.length === 1 ? handleOf(first) : this.run('ConcatV2', [...parts, this.whole(axis)], attrs);
  }

  /** The sum of tensors of one shape, in their order. */
  addAll(parts: Operand[]): Handle {
    const attrs = [int('N', parts.length), dtype('T', DTYPE.float32)];
    return parts.length === 1 ? handleOf(parts[0] as Operand) : this.run('AddN', parts, attrs);
  }

  /** `size` rows along an axis, from `start`. */
  slice(x: Handle, axis: number, start: number, size: number): Handle {
    const begin = x.shape.map((_, i) => (i === axis ? start : 0));
    const sizes = x.shape.map((side, i) => (i === axis ? size : side));
    return this.run('Slice', [x, this.vector(begin), this.vector(sizes)]);
  }

  /** Along the first axis, without a copy where rows lie aligned. */
  split(x: Handle, sizes: number[]): Handle[] {
    if (sizes.length === 1) return [x];
    return this.runAll(
      'SplitV',
      [x, this.vector(sizes), this.whole(0)],
      [int('num_split', sizes.length)],
      sizes.length,
    );
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
