/** Fits the losses of one curve over the size of its models and, where the shapes support it, their depth over width. */
import { t95 } from './distributions.js';
import { dot, leastSquares } from './least-squares.js';

export type Interval = readonly [low: number, high: number];

/** The seeds of one shape, as their mean. */
export interface ShapeMean {
  /** log10 of the model's size. */
  x: number;
  /** ln of depth over width. */
  z: number;
  layers: number;
  /** ln of the FLOPs per pass. */
  cost: number;
  loss: number;
  /** One over the variance of `loss`, up to a common factor. */
  weight: number;
}

export type FitState =
  | 'minimum'
  /** Fewer than three sizes. */
  | 'too-few'
  /** The lower envelope does not bend upwards. */
  | 'no-minimum'
  /** The optimum is below the smallest size, or above the largest. */
  | 'below'
  | 'above';

/** `size`: a parabola over the size. `size and depth`: a surface over the size and depth over width. */
export type FitKind = 'size' | 'size and depth';

/** A point of the fitted surface. */
export interface Place {
  x: number;
  z: number;
}

/** A fitted curve. Losses are linear in the coefficients, so every loss and difference of losses has an exact t interval. */
export interface CurveFit {
  kind: FitKind;
  state: FitState;
  /** Number of coefficients. */
  terms: number;
  /** The minimum of the lower envelope; null unless the state is `minimum`. */
  optimum: (Place & { loss: number }) | null;
  /** The optimal shape is the deepest or widest of its size; null if it is between the shapes that were trained. */
  depthEdge: 'deepest' | 'widest' | null;
  /** Weighted sum of squares of the shapes' means around the fit, and its degrees of freedom. */
  lack: { squares: number; freedom: number };
  range: Interval;
  /** The lowest loss of a size over the depths that were trained for about this size. */
  envelope: (x: number) => Place & { loss: number };
  /** The weight of each shape's mean in the fitted loss at a place. */
  influence: (place: Place) => number[];
  /**
   * The 95% interval of the optimal size; null if it is not bounded.
   *
   * @param variances of the shapes' means
   */
  sizeInterval: (variances: readonly number[], freedom: number) => Interval | null;
}

/** A surface needs two shapes of about one size, whose FLOPs per pass differ by less and depth over width by more than this. */
const [ONE_SIZE, DEEPER] = [1.25, 1.5];
/** Every term beyond a parabola must leave this many shapes more than terms. */
const SPARE_SHAPES = 2;
/** A column is used if at least this share of its square is not explained by the other columns. */
const INDEPENDENT = 0.02;
const GRID = 96;
/** How far outside the sizes, in units of half their range, an interval's end is searched. */
const BEYOND = 2;

/** A term of the surface: its value, and its derivatives by t and s, the size and depth over width scaled to about ±1. */
interface Term {
  value: (t: number, s: number) => number;
  byT: (t: number, s: number) => number;
  byS: (t: number, s: number) => number;
}
const PARABOLA: Term[] = [
  { value: () => 1, byT: () => 0, byS: () => 0 },
  { value: (t) => t, byT: () => 1, byS: () => 0 },
  { value: (t) => t * t, byT: (t) => 2 * t, byS: () => 0 },
];
const DEPTH: Term = { value: (_, s) => s, byT: () => 0, byS: () => 1 };
const DEPTH_SQUARED: Term = { value: (_, s) => s * s, byT: () => 0, byS: (_, s) => 2 * s };
const DEPTH_BY_SIZE: Term = { value: (t, s) => t * s, byT: (_, s) => s, byS: (t) => t };

/**
 * Least squares. Null for fewer than three sizes.
 *
 * @param withDepth false: a parabola over the size, whatever the shapes
 */
export function fitCurve(shapes: readonly ShapeMean[], withDepth = true): CurveFit | null {
  const sizes = shapes.map(({ x }) => x);
  if (new Set(sizes).size < 3) return null;
  const [low, high] = [Math.min(...sizes), Math.max(...sizes)];
  const [middle, half] = [(low + high) / 2, (high - low) / 2];
  const zs = shapes.map(({ z }) => z);
  const zMiddle = (Math.min(...zs) + Math.max(...zs)) / 2;
  const zHalf = (Math.max(...zs) - Math.min(...zs)) / 2 || 1;
  const points = shapes.map(({ x, z }) => ({ t: (x - middle) / half, s: (z - zMiddle) / zHalf }));
  const losses = shapes.map(({ loss }) => loss);
  const weights = shapes.map(({ weight }) => weight);
  const terms = withDepth ? termsOf(shapes, points) : PARABOLA;
  const rows = points.map(({ t, s }) => terms.map(({ value }) => value(t, s)));
  const solved = leastSquares(rows, losses, weights);
  if (solved === null) return null;
  const { beta, inverse } = solved;
  const band = terms.length === PARABOLA.length ? () => [0, 0] as const : hullOf(points);
  const at = (t: number, s: number) =>
    dot(
      beta,
      terms.map(({ value }) => value(t, s)),
    );
  const bestDepth = (t: number): { s: number; edge: CurveFit['depthEdge']; loss: number } => {
    const [least, most] = band(Math.max(-1, Math.min(1, t)));
    if (most === least) return { s: least, edge: null, loss: at(t, least) };
    const ends = [
      { s: least, edge: 'widest' as const, loss: at(t, least) },
      { s: most, edge: 'deepest' as const, loss: at(t, most) },
    ].sort((a, b) => a.loss - b.loss) as [{ s: number; edge: CurveFit['depthEdge']; loss: number }];
    const bend = terms.indexOf(DEPTH_SQUARED);
    const curvature = bend < 0 ? 0 : (beta[bend] as number);
    if (!(curvature > 0)) return ends[0];
    const slope = dot(
      beta,
      terms.map(({ byS }) => byS(t, 0)),
    );
    const s = -slope / (2 * curvature);
    return s > least && s < most ? { s, edge: null, loss: at(t, s) } : ends[0];
  };
  const place = (t: number, s: number): Place => ({ x: middle + half * t, z: zMiddle + zHalf * s });
  const envelope = (x: number) => {
    const t = (x - middle) / half;
    const { s, loss } = bestDepth(t);
    return { ...place(t, s), loss };
  };
  const { t: tBest, state } = lowest(
    bestDepth,
    beta[2] as number,
    terms.length === PARABOLA.length ? beta : null,
  );
  const best = bestDepth(tBest);
  const residuals = rows.map((row, i) => (losses[i] as number) - dot(row, beta));
  const gradientAt = (t: number, s: number): [number[], number[]] => [
    terms.map(({ byT }) => byT(t, s)),
    terms.map(({ byS }) => byS(t, s)),
  ];
  /** The t statistic, squared, of the hypothesis that the optimum has this size (Fieller 1954; Box and Hunter 1954). */
  const distance = (t: number, covariance: number[][]): number => {
    const step = 1e-3;
    const { s, edge } = bestDepth(t);
    const [byT, byS] = gradientAt(t, s);
    if (edge === null && terms.length > PARABOLA.length) {
      const [least, most] = band(Math.max(-1, Math.min(1, t)));
      return leastQuadratic(t, [least, most], beta, covariance, gradientAt);
    }
    const along =
      terms.length === PARABOLA.length ? 0 : (bestDepth(t + step).s - bestDepth(t - step).s) / (2 * step);
    const direction = byT.map((value, i) => value + along * (byS[i] as number));
    return dot(direction, beta) ** 2 / quadratic(covariance, direction);
  };
  return {
    kind: terms.length === PARABOLA.length ? 'size' : 'size and depth',
    state,
    terms: terms.length,
    optimum: state === 'minimum' ? { ...place(tBest, best.s), loss: best.loss } : null,
    depthEdge: state === 'minimum' ? best.edge : null,
    lack: {
      squares: residuals.reduce((sum, one, i) => sum + (weights[i] as number) * one * one, 0),
      freedom: shapes.length - terms.length,
    },
    range: [low, high],
    envelope,
    influence: ({ x, z }) => {
      const [t, s] = [(x - middle) / half, (z - zMiddle) / zHalf];
      const row = terms.map(({ value }) => value(t, s));
      const solution = inverse.map((line) => dot(line, row));
      return rows.map((one, i) => (weights[i] as number) * dot(one, solution));
    },
    sizeInterval: (variances, freedom) => {
      if (state !== 'minimum') return null;
      const limit = t95(freedom) ** 2;
      const covariance = covarianceOf(rows, weights, inverse, variances);
      const inside = (t: number) => distance(t, covariance) <= limit;
      const ends = [-1, 1].map((side) => endOf(inside, tBest, side));
      return ends.includes(null)
        ? null
        : [middle + half * (ends[0] as number), middle + half * (ends[1] as number)];
    },
  };
}

/** The covariance of coefficients, from the variances of the shapes' means. */
function covarianceOf(
  rows: readonly (readonly number[])[],
  weights: readonly number[],
  inverse: number[][],
  variances: readonly number[],
): number[][] {
  const covariance = inverse.map((line) => line.map(() => 0));
  rows.forEach((row, r) => {
    const influence = inverse.map((line) => (weights[r] as number) * dot(line, row));
    influence.forEach((a, i) => {
      const line = covariance[i] as number[];
      influence.forEach((b, j) => {
        line[j] = (line[j] as number) + a * b * (variances[r] as number);
      });
    });
  });
  return covariance;
}

function termsOf(shapes: readonly ShapeMean[], points: readonly { t: number; s: number }[]): Term[] {
  const terms = [...PARABOLA];
  if (!haveDepths(shapes)) return terms;
  const levels = new Set(shapes.map(({ layers }) => layers)).size;
  for (const term of levels >= 3 ? [DEPTH, DEPTH_SQUARED, DEPTH_BY_SIZE] : [DEPTH, DEPTH_BY_SIZE]) {
    if (shapes.length < terms.length + 1 + SPARE_SHAPES) break;
    const column = points.map(({ t, s }) => term.value(t, s));
    const left = residualsOf(
      points.map(({ t, s }) => terms.map(({ value }) => value(t, s))),
      column,
    );
    if (left !== null && dot(left, left) > INDEPENDENT * dot(column, column)) terms.push(term);
  }
  return terms;
}

/** Whether the shapes differ in depth at one size, so that the effects of size and depth can be told apart. */
const haveDepths = (shapes: readonly ShapeMean[]): boolean =>
  shapes.some((a) =>
    shapes.some((b) => b.z - a.z >= Math.log(DEEPER) && Math.abs(a.cost - b.cost) <= Math.log(ONE_SIZE)),
  );

function residualsOf(rows: readonly (readonly number[])[], y: readonly number[]): number[] | null {
  const fit = leastSquares(
    rows,
    y,
    y.map(() => 1),
  );
  return fit && y.map((value, i) => value - dot(rows[i] as number[], fit.beta));
}

/** The depths between which shapes of a size were trained: the convex hull of the shapes. */
function hullOf(points: readonly { t: number; s: number }[]): (t: number) => readonly [number, number] {
  const sorted = [...points].sort((a, b) => a.t - b.t || a.s - b.s);
  const chain = (sign: number) => {
    const kept: { t: number; s: number }[] = [];
    for (const point of sorted) {
      for (;;) {
        const [a, b] = [kept.at(-2), kept.at(-1)];
        if (a === undefined || b === undefined) break;
        const turn = (b.t - a.t) * (point.s - a.s) - (b.s - a.s) * (point.t - a.t);
        if (sign * turn > 0) break;
        kept.pop();
      }
      kept.push(point);
    }
    return kept;
  };
  const [below, above] = [chain(1), chain(-1)];
  return (t) => [heightOf(below, t, Math.min), heightOf(above, t, Math.max)];
}

function heightOf(
  chain: readonly { t: number; s: number }[],
  t: number,
  of: (...values: number[]) => number,
): number {
  const there = chain.filter((point) => Math.abs(point.t - t) < 1e-9);
  if (there.length > 0) return of(...there.map(({ s }) => s));
  for (let i = 1; i < chain.length; i++) {
    const [a, b] = [chain[i - 1], chain[i]] as [{ t: number; s: number }, { t: number; s: number }];
    if (t > a.t && t < b.t) return a.s + ((b.s - a.s) * (t - a.t)) / (b.t - a.t);
  }
  return (chain[0] as { s: number }).s;
}

/** The minimum of the lower envelope over the sizes −1 to 1; of a parabola from its coefficients. */
function lowest(
  bestDepth: (t: number) => { loss: number },
  bend: number,
  parabola: readonly number[] | null,
): { t: number; state: FitState } {
  if (parabola !== null) {
    if (!(bend > 0)) return { t: 0, state: 'no-minimum' };
    const t = -(parabola[1] as number) / (2 * bend);
    return { t, state: t < -1 ? 'below' : t > 1 ? 'above' : 'minimum' };
  }
  const losses = Array.from({ length: GRID + 1 }, (_, i) => bestDepth((2 * i) / GRID - 1).loss);
  const least = losses.indexOf(Math.min(...losses));
  if (least === 0 || least === GRID) {
    return { t: (2 * least) / GRID - 1, state: bend > 0 ? (least === 0 ? 'below' : 'above') : 'no-minimum' };
  }
  let [a, b] = [(2 * (least - 1)) / GRID - 1, (2 * (least + 1)) / GRID - 1];
  for (let i = 0; i < 40; i++) {
    const [left, right] = [a + (b - a) / 3, b - (b - a) / 3];
    if (bestDepth(left).loss < bestDepth(right).loss) b = right;
    else a = left;
  }
  return { t: (a + b) / 2, state: 'minimum' };
}

/** The least over depths of the quadratic form of the gradient of the surface, which is 0 at its minimum. */
function leastQuadratic(
  t: number,
  [low, high]: Interval,
  beta: readonly number[],
  covariance: number[][],
  gradientAt: (t: number, s: number) => [number[], number[]],
): number {
  const steps = 24;
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i <= steps; i++) {
    const [byT, byS] = gradientAt(t, low + ((high - low) * i) / steps);
    const [g, h] = [dot(byT, beta), dot(byS, beta)];
    const [tt, ss] = [quadratic(covariance, byT), quadratic(covariance, byS)];
    const ts = dot(
      byT,
      covariance.map((line) => dot(line, byS)),
    );
    const determinant = tt * ss - ts * ts;
    if (determinant > 0) least = Math.min(least, (g * g * ss - 2 * g * h * ts + h * h * tt) / determinant);
  }
  return least;
}

const quadratic = (matrix: number[][], v: readonly number[]) =>
  dot(
    v,
    matrix.map((line) => dot(line, v)),
  );

/** Where a region that contains `from` ends, in units of half the range of sizes; null if it does not end nearby. */
function endOf(inside: (t: number) => boolean, from: number, side: number): number | null {
  const step = 0.05;
  let near = from;
  for (let i = 1; i * step <= BEYOND + 1; i++) {
    const far = from + side * i * step;
    if (!inside(far)) {
      let [a, b] = [near, far];
      for (let j = 0; j < 20; j++) {
        const middle = (a + b) / 2;
        if (inside(middle)) a = middle;
        else b = middle;
      }
      return (a + b) / 2;
    }
    near = far;
  }
  return null;
}
