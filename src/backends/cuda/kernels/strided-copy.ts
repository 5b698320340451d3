/** Copies of boxes between tensors on cuda: what slices, concatenations and caches are made of. */
import { util } from '@tensorflow/tfjs-core';
import { type Call, sizeOf } from '../driver/call.js';
import type { Address } from '../driver/driver.js';
import { address, long } from '../driver/kernel-library.js';
import { BYTES_PER_ELEMENT, type Storage } from '../driver/storage.js';
import { elementThreads } from './launch-shapes.js';

/** Of a row-major tensor. */
export function stridesOf(shape: number[]): number[] {
  return shape.map((_, i) => sizeOf(shape.slice(i + 1)));
}

/** Somewhere in a tensor: where it is, the first element, and how far the next ones are. */
export interface Place {
  at: Address;
  first: number;
  strides: number[];
}

/** Copies a box of up to four dimensions from one place to another. */
export function stridedCopy(call: Call, storage: Storage, from: Place, to: Place, box: number[]): void {
  util.assert(box.length <= 4, () => 'the cuda backend copies boxes of four dimensions at most');
  const bytes = BYTES_PER_ELEMENT[storage];
  const four = (values: number[], fill: number) => [
    ...new Array<number>(4 - values.length).fill(fill),
    ...values,
  ];
  const size = sizeOf(box);
  const name = bytes === 2 ? 'copyHalves' : 'copyWords';
  call.launch('elementwise', name, elementThreads(size), [
    address(from.at + from.first * bytes),
    address(to.at + to.first * bytes),
    long(size),
    ...four(box, 1).slice(1),
    ...four(from.strides, 0),
    ...four(to.strides, 0),
  ]);
}
