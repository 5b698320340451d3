/** Launch shapes that several kernels share: a warp per row, a thread per element, and a persistent grid for gradients. */
import type { Call } from '../driver/call.js';

/** Threads per block, and per warp. */
export const THREADS = 256;
export const WARP = 32;
/** Rows per block if each row has a warp. */
export const ROWS_PER_BLOCK = THREADS / WARP;

/** Elements that a thread loads at once: 8 if the width is a multiple of 8, so that loads have 16 bytes or more. */
export function vectorOf(width: number): 1 | 8 {
  return width % 8 === 0 ? 8 : 1;
}

/** One warp per row. */
export function warpRows(rows: number): { grid: number; block: number } {
  return { grid: Math.ceil(rows / ROWS_PER_BLOCK), block: THREADS };
}

/** One thread for each element, or for each `vector` of them. */
export function elementThreads(size: number, vector = 1): { grid: number; block: number } {
  return { grid: Math.ceil(size / (THREADS * vector)), block: THREADS };
}

/**
 * How a warp of a gradient kernel keeps a row in registers: each lane has `groups` times `vector` columns, and
 * `blocks` blocks fit on a multiprocessor. norm.cu and routing.cu define a kernel for each entry of this list.
 */
const ROW_TILINGS = [
  { vector: 8, groups: 1, blocks: 4 },
  { vector: 2, groups: 1, blocks: 4 },
  { vector: 2, groups: 3, blocks: 4 },
  { vector: 8, groups: 2, blocks: 3 },
  { vector: 2, groups: 5, blocks: 4 },
  { vector: 2, groups: 7, blocks: 4 },
  { vector: 8, groups: 3, blocks: 2 },
  { vector: 8, groups: 4, blocks: 2 },
  { vector: 8, groups: 8, blocks: 1 },
];
type RowTiling = (typeof ROW_TILINGS)[number];

/** The tiling with the fewest unused lanes for rows of this width; null for widths that are not a multiple of 8 or too large. */
export function rowTiling(width: number): RowTiling | null {
  const columns = ({ vector, groups }: RowTiling) => WARP * vector * groups;
  const fitting = ROW_TILINGS.filter((tiling) => width % 8 === 0 && width <= columns(tiling));
  return fitting.sort((a, b) => columns(a) - columns(b) || b.vector - a.vector)[0] ?? null;
}

/**
 * The name of a gradient kernel for a tiling, and its launch shape: a persistent grid with work for `warps` warps. Each block
 * writes `width` partial sums.
 */
export function persistentGrid(
  call: Call,
  kernel: string,
  { vector, groups, blocks }: RowTiling,
  warps: number,
  width: number,
): { name: string; shape: { grid: number; block: number; shared: number } } {
  const grid = Math.min(Math.ceil(warps / ROWS_PER_BLOCK), blocks * call.backend.driver.multiprocessors);
  return { name: `${kernel}${vector}x${groups}`, shape: { grid, block: THREADS, shared: 4 * width } };
}
