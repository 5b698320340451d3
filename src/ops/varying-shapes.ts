/**
 * Work whose shapes differ from call to call: rows [1, N, D] of the tokens that a routed block selected, prompts of any length, the
 * last batch of an evaluation. A backend that measures its products for each shape does not measure them here, and rounds N
 * up to few numbers.
 */

let depth = 0;

/** Runs such work. */
export function varyingShapes<T>(work: () => T): T {
  depth += 1;
  try {
    return work();
  } finally {
    depth -= 1;
  }
}

/** Whether such work is under way. */
export const shapesVary = (): boolean => depth > 0;

const FEWEST_ROWS = 16;

/** The next of few numbers that is at least `rows`: eight for each power of two, so at most an eighth more. */
export function roundedRows(rows: number): number {
  const step = Math.max(FEWEST_ROWS, 2 ** (Math.floor(Math.log2(Math.max(1, rows))) - 3));
  return step * Math.ceil(rows / step);
}
