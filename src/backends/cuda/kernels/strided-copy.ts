/** Copies of strided blocks between tensors, for slices, concatenations and caches; the kernels are in elementwise.cu. */
import { util } from '@tensorflow/tfjs-core';
import { type Call, sizeOf } from '../driver/call.js';
import type { Address } from '../driver/driver.js';
import { address, long } from '../driver/kernel-library.js';
import { BYTES_PER_ELEMENT, type Storage } from '../driver/storage.js';
import { elementThreads } from './launch-shapes.js';

/** Strides of a row-major tensor. */
export function stridesOf(shape: number[]): number[] {
  return shape.map((_, i) => sizeOf(shape.slice(i + 1)));
}

/** One end of a copy. */
export interface StridedBlock {
  at: Address;
  /** Elements before the first one of the block. */
  first: number;
  /** Elements from one index to the next, for each dimension. */
  strides: number[];
}

/** Copies a block of this shape, which has at most four dimensions. */
export function stridedCopy(
  call: Call,
  storage: Storage,
  from: StridedBlock,
  to: StridedBlock,
  shape: number[],
): void {
  util.assert(shape.length <= 4, () => 'the cuda backend copies at most four dimensions');
  const bytes = BYTES_PER_ELEMENT[storage];
  const four = (values: number[], fill: number) => [
    ...new Array<number>(4 - values.length).fill(fill),
    ...values,
  ];
  const size = sizeOf(shape);
  const name = bytes === 2 ? 'copyHalves' : 'copyWords';
  call.launch('elementwise', name, elementThreads(size), [
    address(from.at + from.first * bytes),
    address(to.at + to.first * bytes),
    long(size),
    ...four(shape, 1).slice(1),
    ...four(from.strides, 0).map(long),
    ...four(to.strides, 0).map(long),
  ]);
}
