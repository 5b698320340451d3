/** Minimises a smooth function of a few variables: BFGS with a backtracking line search. */

export interface Minimum {
  x: number[];
  value: number;
}

/** A function's value and its gradient. */
export type Objective = (x: readonly number[]) => { value: number; gradient: number[] };

const MAX_STEPS = 500;
/** A step is accepted if it achieves this share of the decrease that the slope predicts (Armijo). */
const ENOUGH_DECREASE = 1e-4;
const SHORTEST_STEP = 1e-12;
const TOLERANCE = 1e-12;
/** Enough for resamples, whose spread is far larger than what is left. */
export const ROUGH = 1e-7;

/**
 * A local minimum from a start (Nocedal and Wright 2006, algorithm 6.1).
 *
 * @param tolerance stops when a full step decreases the value by less than this, relative to the value
 */
export function minimize(
  objective: Objective,
  start: readonly number[],
  tolerance: number = TOLERANCE,
): Minimum {
  const n = start.length;
  let x = [...start];
  let { value, gradient } = objective(x);
  let inverse = identity(n); // of the Hessian, approximately
  for (let step = 0; step < MAX_STEPS; step++) {
    let direction = inverse.map((row) => -dot(row, gradient));
    let slope = dot(direction, gradient);
    if (!(slope < 0)) {
      inverse = identity(n);
      direction = gradient.map((g) => -g);
      slope = dot(direction, gradient);
      if (!(slope < 0)) break;
    }
    const next = search(objective, x, value, direction, slope);
    if (next === null) break;
    const s = next.x.map((xi, i) => xi - (x[i] as number));
    const y = next.gradient.map((gi, i) => gi - (gradient[i] as number));
    const gain = value - next.value;
    ({ x, value, gradient } = next);
    if (gain <= tolerance * Math.abs(value)) break;
    inverse = updated(inverse, s, y);
  }
  return { x, value };
}

function search(
  objective: Objective,
  x: readonly number[],
  value: number,
  direction: readonly number[],
  slope: number,
): { x: number[]; value: number; gradient: number[] } | null {
  for (let length = 1; length >= SHORTEST_STEP; length /= 2) {
    const at = x.map((xi, i) => xi + length * (direction[i] as number));
    const found = objective(at);
    if (found.value <= value + ENOUGH_DECREASE * length * slope) return { x: at, ...found };
  }
  return null;
}

/** The BFGS update of the inverse Hessian; unchanged if the curvature along the step is not positive. */
function updated(inverse: number[][], s: readonly number[], y: readonly number[]): number[][] {
  const sy = dot(s, y);
  if (!(sy > 0)) return inverse;
  const hy = inverse.map((row) => dot(row, y));
  const factor = (sy + dot(y, hy)) / (sy * sy);
  return inverse.map((row, i) =>
    row.map((h, j) => {
      const [si, sj, hi, hj] = [s[i], s[j], hy[i], hy[j]] as [number, number, number, number];
      return h + factor * si * sj - (hi * sj + si * hj) / sy;
    }),
  );
}

function identity(n: number): number[][] {
  return Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => (i === j ? 1 : 0)));
}

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);
}
