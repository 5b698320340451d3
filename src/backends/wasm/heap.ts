/** Helpers for kernels in TypeScript on the heap of tfjs' WebAssembly backend: views of tensors, outputs, matrix products. */

import type { BackendWasm } from '@tensorflow/tfjs-backend-wasm';
import {
  engine,
  type KernelFunc,
  matMul,
  registerKernel,
  reshape,
  type Tensor,
  type TensorInfo,
} from '@tensorflow/tfjs-core';
import type { Kernel, KernelInputs } from '../../ops/kernel.js';

export const WASM = 'wasm';

function sizeOf(shape: number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}

/** Access to tensors for one kernel call. Views are valid until the next allocation, which may move the heap. */
export class Heap {
  constructor(private readonly backend: BackendWasm) {}

  /** A new, uninitialized tensor. */
  make(shape: number[], dtype: 'float32' | 'int32' = 'float32'): Tensor {
    return engine().makeTensorFromTensorInfo(this.backend.makeOutput(shape, dtype));
  }

  /** A view of the elements of a float32 tensor. */
  floats(tensor: TensorInfo): Float32Array {
    const { memory, offset } = this.at(tensor);
    return new Float32Array(memory, offset, sizeOf(tensor.shape));
  }

  /** A view of the elements of an int32 tensor. */
  ints(tensor: TensorInfo): Int32Array {
    const { memory, offset } = this.at(tensor);
    return new Int32Array(memory, offset, sizeOf(tensor.shape));
  }

  /** A consumed input as an output: a second handle on its memory, or a copy if the memory is shared. */
  reuse(tensor: Tensor): Tensor {
    // A clone is a copy on this backend; a reshape is not.
    if (this.backend.refCount(tensor.dataId) === 1) return reshape(tensor, tensor.shape);
    const copy = this.make(tensor.shape);
    this.floats(copy).set(this.floats(tensor));
    return copy;
  }

  private at(tensor: TensorInfo): { memory: ArrayBufferLike; offset: number } {
    const { HEAPU8 } = this.backend.wasm as unknown as { HEAPU8: Uint8Array }; // missing in its types
    return { memory: HEAPU8.buffer, offset: this.backend.getMemoryOffset(tensor.dataId) };
  }
}

/** A kernel of the wasm backend, by the name under which tfjs runs it. */
export interface WasmKernel {
  readonly kernelName: string;
  readonly compute: (heap: Heap, inputs: KernelInputs, attrs: object) => Tensor[];
}

/** The wasm implementation of an op's kernel; the types are those of the kernel's definition. */
export function wasmKernel<I extends KernelInputs, A extends object, O extends Tensor[]>(
  { kernelName }: Kernel<I, A, O>,
  compute: (heap: Heap, inputs: I, attrs: A) => O,
): WasmKernel {
  return { kernelName, compute: (heap, inputs, attrs) => compute(heap, inputs as I, attrs as A) };
}

/** Registers kernels with tfjs for the wasm backend. */
export function registerWasmKernels(kernels: readonly WasmKernel[]): void {
  for (const { kernelName, compute } of kernels) {
    const kernelFunc: KernelFunc = ({ inputs, attrs, backend }) =>
      compute(
        new Heap(backend as BackendWasm),
        inputs as unknown as KernelInputs,
        attrs as unknown as object,
      );
    registerKernel({ kernelName, backendName: WASM, kernelFunc });
  }
}

/**
 * a·b for matrices without transpose flags, the only products that the backend computes at full speed. Do not write to b
 * afterwards: the backend caches its packed form until the tensor is disposed.
 */
export function product(a: Tensor, b: Tensor): Tensor {
  return matMul(a as never, b as never);
}

/** Transposes a row-major [rows, columns] block whose rows are `pitch` apart, in tiles that fit in the cache. */
export function transposeInto(
  source: Float32Array,
  target: Float32Array,
  rows: number,
  columns: number,
  pitch = columns,
): void {
  const TILE = 32;
  for (let i0 = 0; i0 < rows; i0 += TILE) {
    const i1 = Math.min(i0 + TILE, rows);
    for (let j0 = 0; j0 < columns; j0 += TILE) {
      const j1 = Math.min(j0 + TILE, columns);
      for (let i = i0; i < i1; i++) {
        for (let j = j0; j < j1; j++) target[j * rows + i] = source[i * pitch + j] as number;
      }
    }
  }
}

/** Adds `width` consecutive elements of `from` to as many elements of `to`. */
export function addRow(
  to: Float32Array,
  toStart: number,
  from: Float32Array,
  fromStart: number,
  width: number,
): void {
  for (let d = 0; d < width; d++) {
    to[toStart + d] = (to[toStart + d] as number) + (from[fromStart + d] as number);
  }
}
