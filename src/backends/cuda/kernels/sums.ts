/** Sums over rows, columns and chunks, in two passes and always in the same order: sums.cu. */
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Call } from '../driver/call.js';
import type { Address } from '../driver/driver.js';
import { address, float } from '../driver/kernel-library.js';

/** Maximum number of chunks of rows: enough to fill a GPU, few enough for a cheap second pass. */
const CHUNKS = 512;
/** Minimum number of rows of a chunk. */
const MIN_ROWS = 32;
/** Numbers of a row that one block adds up: four for each thread. */
const NUMBERS_PER_BLOCK = 4096;

export interface ColumnSums {
  /** [rows, width] */
  dy: Tensor;
  rows: number;
  width: number;
  /** Another factor [rows, width]. */
  x?: Tensor;
  /** A factor for each row, float32 [rows]; rows with factor 0 are skipped. */
  scale?: Address;
  /** The result's shape; default [width]. */
  shape?: number[];
}

/** How the first pass divides the rows. */
export function chunksOf(rows: number): { chunks: number; rowsOfChunk: number } {
  const rowsOfChunk = Math.max(MIN_ROWS, Math.ceil(rows / CHUNKS));
  return { chunks: Math.max(1, Math.ceil(rows / rowsOfChunk)), rowsOfChunk };
}

/** Σ dy·x·scale over the rows: `width` numbers in float32. */
export function sumColumns(call: Call, { dy, rows, width, x, scale, shape = [width] }: ColumnSums): Tensor {
  const { chunks, rowsOfChunk } = chunksOf(rows);
  const partials = call.scratch(4 * chunks * width);
  const columnBlocks = Math.ceil(width / 32);
  const launch = { grid: [columnBlocks, chunks, 1], block: 256 } as const;
  const wide = call.backend.dataOf(dy).storage === 'float32' && call.backend.activations === 'bfloat16';
  if (wide && x === undefined && scale === undefined) {
    const args = [address(call.at(dy)), address(partials), rows, width, rowsOfChunk];
    call.launch('sums', 'columnPartialsFloat', launch, args);
  } else {
    call.launch('sums', 'columnPartials', launch, [
      address(call.activation(dy)),
      address(x === undefined ? null : call.activation(x)),
      address(scale ?? null),
      address(partials),
      rows,
      width,
      rowsOfChunk,
    ]);
  }
  return sumChunks(call, partials, chunks, shape)[0] as Tensor;
}

/** Σ partials [chunks, width] over the chunks, in float32, split by columns into at most four tensors of these shapes. */
export function sumChunks(call: Call, partials: Address, chunks: number, ...shapes: number[][]): Tensor[] {
  const outputs = shapes.map((shape) => call.make(shape, 'float32'));
  const [second, third, fourth, width] = [1, 2, 3, 4].map((count) =>
    outputs.slice(0, count).reduce((sum, { size }) => sum + size, 0),
  ) as [number, number, number, number];
  call.launch('sums', 'sumPartials', { grid: Math.ceil(width / 32), block: 1024 }, [
    address(partials),
    ...[0, 1, 2, 3].map((i) => {
      const output = outputs[i];
      return address(output === undefined ? null : call.at(output));
    }),
    chunks,
    width,
    second,
    third,
    fourth,
  ]);
  return outputs;
}

/** sums[row] = scale · Σ x[row, ·] of float32 rows; long rows in two passes, so that several blocks share a row. */
export function sumRows(
  call: Call,
  x: Address,
  sums: Address,
  { rows, width, scale }: { rows: number; width: number; scale: number },
): void {
  const chunks = Math.ceil(width / NUMBERS_PER_BLOCK);
  const pass = (from: Address, to: Address, across: number, chunk: number, times: number) =>
    call.launch('sums', 'sumRows', { grid: [rows, Math.max(1, Math.ceil(across / chunk)), 1], block: 1024 }, [
      address(from),
      address(to),
      across,
      chunk,
      float(times),
    ]);
  if (chunks <= 1) {
    pass(x, sums, width, NUMBERS_PER_BLOCK, scale);
    return;
  }
  const partials = call.scratch(4 * rows * chunks);
  pass(x, partials, width, NUMBERS_PER_BLOCK, 1);
  pass(partials, sums, chunks, chunks, scale);
}
