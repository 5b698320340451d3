/** Fits parabolas to isoFLOP points and finds their optimum, with its interval if it is known. */
import type { RandomStream } from '../random.js';
import { mean, quantile } from '../statistics.js';
import { groupBy } from './group.js';

/** One run: x is the logarithm of its size, y its loss. Runs of the same x are seeds of one size. */
export interface Point {
  x: number;
  y: number;
}

export type Interval = readonly [low: number, high: number];

/** y = a + b·(x - center) + c·(x - center)². */
export interface Parabola {
  center: number;
  a: number;
  b: number;
  c: number;
}

export type FitState =
  | 'minimum'
  /** Fewer than three sizes. */
  | 'too-few'
  /** The curvature is negative or zero. */
  | 'no-minimum'
  /** The optimum is below the smallest size, or above the largest. */
  | 'below'
  | 'above';

export interface Fit {
  state: FitState;
  runs: number;
  sizes: number;
  /** Null with fewer than three sizes. */
  parabola: Parabola | null;
  /** x and y of the optimum; null unless the state is `minimum`. */
  x: number | null;
  y: number | null;
  /** 95% intervals; null with too few runs: three sizes leave no residual. */
  xInterval: Interval | null;
  yInterval: Interval | null;
  /** The optima of the resamples with an optimum in range, for quantities computed from several fits. */
  samples: { x: number; y: number }[];
  /** Share of the resamples with an optimum in range; null without a bootstrap. */
  stable: number | null;
  /** Residual sum of squares, and its degrees of freedom. */
  residual: { squares: number; freedom: number };
}

/** The minimum number of sizes to resample: with three, hardly any draw contains all. */
const ENOUGH_SIZES = 4;
const RESAMPLES = 500;
/** A resample with fewer sizes than a parabola needs is drawn again, at most this often. */
const REDRAWS = 50;
/** With a smaller share of resamples in range, the interval would depend mainly on the resamples left out. */
const STABLE = 0.8;

/** Fits by least squares. Null for fewer than three different x. */
export function fitParabola(points: readonly Point[]): Parabola | null {
  if (new Set(points.map(({ x }) => x)).size < 3) return null;
  const n = points.length;
  const center = mean(points.map(({ x }) => x));
  // Moments of the centred x; the normal equations of (1, t, t²) are solved by elimination.
  let [s2, s3, s4, y0, y1, y2] = [0, 0, 0, 0, 0, 0];
  for (const { x, y } of points) {
    const t = x - center;
    s2 += t * t;
    s3 += t ** 3;
    s4 += t ** 4;
    y0 += y;
    y1 += y * t;
    y2 += y * t * t;
  }
  // The first moment is 0, so a = (y0 - s2·c) / n and b = (y1 - s3·c) / s2.
  const c = (y2 - (s2 * y0) / n - (s3 * y1) / s2) / (s4 - (s2 * s2) / n - (s3 * s3) / s2);
  if (!Number.isFinite(c)) return null;
  return { center, a: (y0 - s2 * c) / n, b: (y1 - s3 * c) / s2, c };
}

/** The value of a parabola. */
export function parabolaAt({ center, a, b, c }: Parabola, x: number): number {
  const t = x - center;
  return a + b * t + c * t * t;
}

/**
 * Fits a parabola, finds its optimum, and bootstraps it: sizes are resampled with replacement, and within each size its
 * seeds (Davison and Hinkley 1997, section 3.8). Three sizes cannot be resampled, and resampling two or three seeds
 * underestimates their variance: then each size's mean is drawn from a normal distribution around it.
 *
 * @param noise standard deviation of a run's loss over seeds; null if unknown: then three sizes have no intervals
 */
export function fitOptimum(points: readonly Point[], random: RandomStream, noise: number | null): Fit {
  const sizes: Point[][] = [...groupBy(points, ({ x }) => x).values()];
  const parabola = fitParabola(points);
  const range = rangeOf(points);
  const found = optimumOf(parabola, range);
  const fit: Fit = {
    state: typeof found === 'string' ? found : 'minimum',
    runs: points.length,
    sizes: sizes.length,
    parabola,
    x: null,
    y: null,
    xInterval: null,
    yInterval: null,
    samples: [],
    stable: null,
    residual: residualOf(parabola, points),
  };
  if (typeof found === 'string') return fit;
  const draw = sizes.length >= ENOUGH_SIZES ? resample : noise === null ? null : redraw(noise);
  if (draw === null) return { ...fit, ...found };
  const samples: Fit['samples'] = [];
  for (let i = 0; i < RESAMPLES; i++) {
    const drawn = draw(sizes, random);
    const optimum = optimumOf(fitParabola(drawn), range);
    if (typeof optimum !== 'string') samples.push(optimum);
  }
  const stable = samples.length / RESAMPLES;
  const known = stable >= STABLE;
  return {
    ...fit,
    ...found,
    samples,
    stable,
    xInterval: known ? interval(samples.map(({ x }) => x)) : null,
    yInterval: known ? interval(samples.map(({ y }) => y)) : null,
  };
}

/** The middle 95% of resampled values. */
export function interval(values: readonly number[]): Interval {
  return [quantile(values, 0.025), quantile(values, 0.975)];
}

function rangeOf(points: readonly Point[]): Interval {
  const xs = points.map(({ x }) => x);
  return [Math.min(...xs), Math.max(...xs)];
}

function optimumOf(parabola: Parabola | null, [low, high]: Interval): { x: number; y: number } | FitState {
  if (parabola === null) return 'too-few';
  const { center, b, c } = parabola;
  if (!(c > 0)) return 'no-minimum';
  const x = center - b / (2 * c);
  if (x < low) return 'below';
  if (x > high) return 'above';
  return { x, y: parabolaAt(parabola, x) };
}

function resample(sizes: Point[][], random: RandomStream): Point[] {
  const pick = <T>(items: readonly T[]) => items[Math.floor(random.uniform() * items.length)] as T;
  const seedsOf = (seeds: Point[]) => seeds.map(() => pick(seeds));
  let drawn = sizes.map(() => pick(sizes));
  for (let i = 0; new Set(drawn).size < 3 && i < REDRAWS; i++) drawn = sizes.map(() => pick(sizes));
  return drawn.flatMap(seedsOf);
}

const redraw = (noise: number) => (sizes: Point[][], random: RandomStream) =>
  sizes.map((seeds) => ({
    x: (seeds[0] as Point).x,
    y: mean(seeds.map(({ y }) => y)) + (noise / Math.sqrt(seeds.length)) * random.normal(),
  }));

function residualOf(parabola: Parabola | null, points: readonly Point[]): Fit['residual'] {
  if (parabola === null) return { squares: 0, freedom: 0 };
  const squares = points.reduce((sum, { x, y }) => sum + (y - parabolaAt(parabola, x)) ** 2, 0);
  return { squares, freedom: points.length - 3 };
}
