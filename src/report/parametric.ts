/** Chinchilla's approach 3: fits one loss surface over parameters and tokens to all runs of all budgets. */
import type { RandomStream } from '../random.js';
import { mean, quantile } from '../statistics.js';
import type { Interval } from './curve-fit.js';
import { groupBy } from './group.js';
import { minimize, type Objective, ROUGH } from './minimize.js';

export interface LossPoint {
  /** N, total parameters. */
  params: number;
  /** D, training tokens. */
  tokens: number;
  /** Nats per token. */
  loss: number;
  /** The runs of one shape and budget, which are resampled together. */
  cell: string;
}

/** L(N, D) = E + A / N^alpha + B / D^beta. */
export interface LossSurface {
  E: number;
  A: number;
  B: number;
  alpha: number;
  beta: number;
}

export interface SurfaceFit {
  surface: LossSurface;
  points: number;
  /** Exponents of the optimal N and D in the budget: beta / (alpha + beta) and alpha / (alpha + beta). */
  paramsExponent: number;
  tokensExponent: number;
  /** 95%, shapes resampled; null if a resample could not be fitted. */
  paramsInterval: Interval | null;
  /** Root mean square of log(predicted / observed). */
  rmsLogError: number;
}

/** A point that counts as several. */
type WeightedPoint = LossPoint & { weight?: number };

/** The surface has five unknowns: with fewer runs it would follow each of them. */
const MIN_POINTS = 8;
const HUBER_DELTA = 1e-3;
const RESAMPLES = 60;

/** The paper's grid of starts, thinned: a, b, e, alpha, beta with A = exp(a), B = exp(b), E = exp(e). */
const STARTS = [0, 10, 20].flatMap((a) =>
  [0, 10, 20].flatMap((b) =>
    [-0.5, 0.5].flatMap((e) =>
      [0.2, 0.5, 1].flatMap((alpha) => [0.2, 0.5, 1].map((beta) => [a, b, e, alpha, beta])),
    ),
  ),
);

/** The loss that a surface predicts. */
export function lossAt({ E, A, B, alpha, beta }: LossSurface, params: number, tokens: number): number {
  return E + A / params ** alpha + B / tokens ** beta;
}

/**
 * Minimises the Huber loss, delta 1e-3, of log(predicted) - log(observed), from many starts (Hoffmann et al. 2022,
 * section 3.3), as a mean over runs of squares in units of delta, so that stopping rules work on numbers of order 1 (tiny
 * ones made the paper's own fit stop early: Besiroglu et al. 2024, arXiv 2404.10102). Null with fewer than eight runs,
 * three sizes or three numbers of tokens, and for a single budget, where N determines D.
 */
export function fitSurface(
  points: readonly LossPoint[],
  budgets: number,
  random: RandomStream,
): SurfaceFit | null {
  const distinct = (key: 'params' | 'tokens') => new Set(points.map((point) => point[key])).size;
  if (points.length < MIN_POINTS || budgets < 2 || distinct('params') < 3 || distinct('tokens') < 3)
    return null;
  const objective = huberObjective(points);
  // Only the best few starts are minimised to the end: all 162 find the same minimum.
  const best = STARTS.map((start) => ({ start, value: objective(start).value }))
    .filter(({ value }) => Number.isFinite(value))
    .sort((a, b) => a.value - b.value)
    .slice(0, 8)
    .map(({ start }) => minimize(objective, start))
    .reduce((least, found) => (found.value < least.value ? found : least));
  const surface = surfaceOf(best.x);
  // Resamples are of the means of shapes, each with the weight of its seeds.
  const shapes = [...groupBy(points, ({ cell }) => cell).values()].map((cell) => ({
    ...cell[0],
    loss: mean(cell.map(({ loss }) => loss)),
    weight: cell.length,
  }));
  const exponents = Array.from({ length: RESAMPLES }, () => {
    const drawn = shapes.map(() => shapes[Math.floor(random.uniform() * shapes.length)] as WeightedPoint);
    return paramsExponent(surfaceOf(minimize(huberObjective(drawn), best.x, ROUGH).x));
  });
  const errors = points.map(({ params, tokens, loss }) => Math.log(lossAt(surface, params, tokens) / loss));
  return {
    surface,
    points: points.length,
    paramsExponent: paramsExponent(surface),
    tokensExponent: 1 - paramsExponent(surface),
    paramsInterval: exponents.every(Number.isFinite)
      ? [quantile(exponents, 0.025), quantile(exponents, 0.975)]
      : null,
    rmsLogError: Math.sqrt(errors.reduce((sum, error) => sum + error * error, 0) / errors.length),
  };
}

const paramsExponent = ({ alpha, beta }: LossSurface) => beta / (alpha + beta);

function surfaceOf([a, b, e, alpha, beta]: readonly number[]): LossSurface {
  const [A, B, E] = [a, b, e].map((value) => Math.exp(value as number)) as [number, number, number];
  return { E, A, B, alpha: alpha as number, beta: beta as number };
}

/** Of (a, b, e, alpha, beta): log L = logsumexp(a - alpha·log N, b - beta·log D, e). Called very often, so it allocates no arrays. */
function huberObjective(points: readonly WeightedPoint[]): Objective {
  const n = Float64Array.from(points, ({ params }) => Math.log(params));
  const d = Float64Array.from(points, ({ tokens }) => Math.log(tokens));
  const l = Float64Array.from(points, ({ loss }) => Math.log(loss));
  const w = Float64Array.from(points, ({ weight = 1 }) => weight);
  const total = w.reduce((sum, one) => sum + one, 0);
  return (x) => {
    const [a, b, e, alpha, beta] = x as [number, number, number, number, number];
    let value = 0;
    let [ga, gb, ge, gAlpha, gBeta] = [0, 0, 0, 0, 0];
    for (let i = 0; i < n.length; i++) {
      const logN = n[i] as number;
      const logD = d[i] as number;
      const ofN = a - alpha * logN;
      const ofD = b - beta * logD;
      const largest = Math.max(ofN, ofD, e);
      const expN = Math.exp(ofN - largest);
      const expD = Math.exp(ofD - largest);
      const expE = Math.exp(e - largest);
      const sum = expN + expD + expE;
      const error = (largest + Math.log(sum) - (l[i] as number)) / HUBER_DELTA;
      const weight = w[i] as number;
      value += weight * (Math.abs(error) <= 1 ? 0.5 * error * error : Math.abs(error) - 0.5);
      const slope = (weight * Math.max(-1, Math.min(1, error))) / HUBER_DELTA / sum;
      ga += slope * expN;
      gb += slope * expD;
      ge += slope * expE;
      gAlpha -= slope * expN * logN;
      gBeta -= slope * expD * logD;
    }
    const gradient = [ga, gb, ge, gAlpha, gBeta].map((sum) => sum / total);
    return { value: value / total, gradient };
  };
}
