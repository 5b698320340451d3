/** Launch shapes that several kernels share: a warp a row, a thread an element, and a persistent grid for gradients. */
import type { Call } from '../driver/call.js';

/** Threads of a block, and of a warp. */
export const THREADS = 256;
export const WARP = 32;
/** Rows of a block when each row has a warp. */
export const ROWS_PER_BLOCK = THREADS / WARP;

/** Elements that a thread loads at once: 8 in rows that are a multiple of 8 wide, so that loads have 16 bytes or more. */
export function vectorOf(width: number): 1 | 8 {
  return width % 8 === 0 ? 8 : 1;
}

/** One warp a row. */
export function warpRows(rows: number): { grid: number; block: number } {
  return { grid: Math.ceil(rows / ROWS_PER_BLOCK), block: THREADS };
}

/** One thread for each element, or for each `vector` of them. */
export function elementThreads(size: number, vector = 1): { grid: number; block: number } {
  return { grid: Math.ceil(size / (THREADS * vector)), block: THREADS };
}

/**
 * How a warp of a gradient kernel keeps a row in registers: each lane takes `groups` times `vector` columns, and a
 * multiprocessor holds `blocks` blocks. The same list as in norm.cu and routing.cu, which define a kernel for each.
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
 * A gradient kernel's name for a tiling, and its launch on a persistent grid that has work for `warps` warps: each block
 * leaves `width` partial sums.
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
