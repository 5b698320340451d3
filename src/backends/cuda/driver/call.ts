/** One call of a kernel: its inputs' addresses, outputs, scratch memory and launches; and the registration of kernels. */
import {
  type DataType,
  engine,
  type KernelFunc,
  registerKernel,
  type Tensor,
  type TensorInfo,
} from '@tensorflow/tfjs-core';
import type { Kernel, KernelInputs } from '../../../ops/kernel.js';
import { roundedRows, shapesVary } from '../../../ops/varying-shapes.js';
import { CUDA, type CudaBackend } from '../backend.js';
import type { KernelFile } from '../kernels/files.js';
import type { Address } from './driver.js';
import type { Argument, LaunchShape } from './kernel-library.js';
import type { Block } from './memory.js';
import { BYTES_PER_ELEMENT, paddedRows, type Storage } from './storage.js';

export class Call {
  private readonly scratchBlocks: Block[] = [];

  constructor(readonly backend: CudaBackend) {}

  /** A new float tensor, stored as activations are; uninitialised. */
  makeActivation(shape: number[]): Tensor {
    return this.make(shape, this.backend.activations);
  }

  /** A new tensor in this storage; uninitialised. */
  make(
    shape: number[],
    storage: Storage,
    dtype: DataType = storage === 'int32' ? 'int32' : 'float32',
    capacity = 0,
  ): Tensor {
    return engine().makeTensorFromTensorInfo(this.backend.create(shape, storage, dtype, capacity));
  }

  /** A new activation for the product with a weight, its rows as wide as those of the weight are padded to; read it by `rows`. */
  makeProduct(shape: number[], weight: TensorInfo): Tensor {
    const pitch = this.weightRows(weight);
    if (pitch === shape.at(-1)) return this.makeActivation(shape);
    return engine().makeTensorFromTensorInfo(this.backend.createPadded(shape, pitch));
  }

  /** Where the rows of an activation start, and the elements from one to the next: its width, or more if they are padded. */
  rows(tensor: TensorInfo): { at: Address; pitch: number } {
    const { block, padding } = this.backend.storedDataOf(tensor);
    const width = tensor.shape.at(-1) ?? 1;
    if (padding?.width === width) return { at: block.address, pitch: padding.pitch };
    return { at: this.activation(tensor), pitch: width };
  }

  /** The address of a tensor's elements, in the tensor's storage. */
  at(tensor: TensorInfo): Address {
    return this.backend.dataOf(tensor).block.address;
  }

  /** The address of the elements stored as activations are: the tensor's own, or a converted copy. */
  activation(tensor: TensorInfo): Address {
    return this.stored(tensor, this.backend.activations);
  }

  /** The address of the elements in float32: the tensor's own, or a converted copy. */
  float(tensor: TensorInfo): Address {
    return this.stored(tensor, 'float32');
  }

  /** The address of the elements in int32: the tensor's own, or a converted copy. */
  int(tensor: TensorInfo): Address {
    return this.stored(tensor, 'int32');
  }

  /** A weight as an operand of products, of `weightRows` rows: its bf16 copy is kept until the weight changes or is freed. */
  weight(tensor: TensorInfo): Address {
    const data = this.backend.dataOf(tensor);
    if (!this.hasCopy(tensor)) return this.activation(tensor);
    if (data.shadow === null) {
      const [rows, width] = rowsOf(tensor);
      const padding = 2 * (paddedRows(rows) - rows) * width;
      data.shadow = this.backend.device.allocate(2 * data.elements + padding);
      const { address } = data.shadow;
      this.backend.convert(data.block.address, 'float32', address, 'bfloat16', data.elements);
      this.backend.driver.zero(address + 2 * data.elements, padding);
    }
    return data.shadow.address;
  }

  /** The rows of a weight [out, in] at `weight`: those past its own are zeros. */
  weightRows(tensor: TensorInfo): number {
    const [rows] = rowsOf(tensor);
    return this.hasCopy(tensor) ? paddedRows(rows) : rows;
  }

  /** Whether products read a bf16 copy of a weight. */
  private hasCopy(tensor: TensorInfo): boolean {
    const { storage } = this.backend.storedDataOf(tensor);
    return this.backend.activations === 'bfloat16' && storage === 'float32';
  }

  /**
   * An input to write into and to return, in this storage: another handle on its elements, or a copy if they have other
   * handles or another storage.
   */
  reuse(tensor: Tensor, storage: Storage): Tensor {
    return this.backend.storedDataOf(tensor).refCount === 1
      ? this.overwrite(tensor, storage)
      : this.copy(tensor, storage);
  }

  /** `reuse` with any number of handles, for kernels whose input is not read again by contract. */
  overwrite(tensor: Tensor, storage: Storage): Tensor {
    const data = this.backend.storedDataOf(tensor);
    if (data.storage !== storage) return this.copy(tensor, storage);
    this.backend.dropShadow(data);
    return tensor.clone();
  }

  /** A new tensor of the same elements in this storage. */
  copy(tensor: Tensor, storage: Storage): Tensor {
    const data = this.backend.dataOf(tensor);
    const copy = this.make(tensor.shape, storage, tensor.dtype);
    this.backend.convert(data.block.address, data.storage, this.at(copy), storage, data.elements);
    return copy;
  }

  /**
   * The tensor to accumulate a gradient into, and whether it contains a sum already: the given one, or a new one.
   *
   * @param capacity elements of a new one's memory, if more than its own
   */
  accumulator(
    gradAccum: Tensor | undefined,
    shape: number[],
    storage: Storage,
    capacity = 0,
  ): { sum: Tensor; accumulate: 0 | 1 } {
    return gradAccum === undefined
      ? { sum: this.make(shape, storage, 'float32', capacity), accumulate: 0 }
      : { sum: this.reuse(gradAccum, storage), accumulate: 1 };
  }

  /**
   * The rows that a product computes: those of packed tensors are rounded up if all have memory for more, so that few shapes
   * occur. What it writes past the last row is never read.
   */
  productRows(...tensors: TensorInfo[]): number {
    const [rows] = rowsOf(tensors[0] as TensorInfo);
    if (!shapesVary()) return rows;
    const more = roundedRows(rows);
    const fit = tensors.every(
      (tensor) =>
        this.backend.storedDataOf(tensor).storage === this.backend.activations &&
        this.capacity(tensor) >= more * rowsOf(tensor)[1],
    );
    return fit ? more : rows;
  }

  /** The elements for which a tensor has memory. */
  capacity(tensor: TensorInfo): number {
    const { block, storage } = this.backend.storedDataOf(tensor);
    return block.bytes / BYTES_PER_ELEMENT[storage];
  }

  /** Memory that is freed at the end of this call. */
  scratch(bytes: number): Address {
    const block = this.backend.device.allocate(bytes);
    this.scratchBlocks.push(block);
    return block.address;
  }

  /** Integers in device memory, freed at the end of this call. */
  upload(values: Int32Array): Address {
    const at = this.scratch(values.byteLength);
    this.backend.upload(at, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    return at;
  }

  launch(file: KernelFile, name: string, shape: LaunchShape, args: readonly Argument[]): void {
    this.backend.launch(file, name, shape, args);
  }

  /** The address of the elements in this storage: the tensor's own, or a converted copy. */
  stored(tensor: TensorInfo, storage: Storage): Address {
    const data = this.backend.dataOf(tensor);
    if (data.storage === storage) return data.block.address;
    const copy = this.scratch(data.elements * BYTES_PER_ELEMENT[storage]);
    this.backend.convert(data.block.address, data.storage, copy, storage, data.elements);
    return copy;
  }

  /** Frees the scratch memory. It stays valid for launched work: its next use is later in the stream. */
  end(): void {
    for (const block of this.scratchBlocks) this.backend.device.release(block);
  }
}

/** A kernel of the cuda backend, by the name under which tfjs runs it. */
export interface CudaKernel {
  readonly kernelName: string;
  readonly compute: (call: Call, inputs: KernelInputs, attrs: object) => Tensor | Tensor[];
}

/** The cuda implementation of an op's kernel; the types are those of the kernel's definition. */
export function cudaKernel<I extends KernelInputs, A extends object, O extends Tensor[]>(
  { kernelName }: Kernel<I, A, O>,
  compute: (call: Call, inputs: I, attrs: A) => O,
): CudaKernel {
  return { kernelName, compute: (call, inputs, attrs) => compute(call, inputs as I, attrs as A) };
}

/** Registers kernels with tfjs for the cuda backend. */
export function registerCudaKernels(kernels: readonly CudaKernel[]): void {
  for (const { kernelName, compute } of kernels) {
    const kernelFunc: KernelFunc = ({ inputs, attrs, backend }) => {
      const call = new Call(backend as CudaBackend);
      try {
        return compute(call, inputs as unknown as KernelInputs, attrs as unknown as object);
      } finally {
        call.end();
      }
    };
    registerKernel({ kernelName, backendName: CUDA, kernelFunc });
  }
}

/** Number of elements of a shape. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}

/** The sizes of a tensor as a matrix of its last dimension: [rows, width]. */
export function rowsOf(tensor: TensorInfo): [rows: number, width: number] {
  const width = tensor.shape.at(-1) ?? 1;
  return [width === 0 ? 0 : sizeOf(tensor.shape) / width, width];
}
