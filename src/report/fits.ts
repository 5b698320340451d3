/** The fits of every curve of one budget, by one model of the noise. */
import {
  type CurveFit,
  type FitState,
  fitCurve,
  type Interval,
  type Place,
  type ShapeMean,
} from './curve-fit.js';
import { fTail } from './distributions.js';
import { intervalOf, NEEDED_FREEDOM, sumOf, TEST_LEVEL, type Variance } from './estimate.js';
import { groupBy } from './group.js';
import { dot, leastSquares } from './least-squares.js';
import { Noise } from './noise.js';
import type { NoisyRun, Weights } from './seed-effects.js';

/** The measures of a model's size that curves are fitted over. */
export const AXES = ['params_total', 'flops_per_pass'] as const;
export type Axis = (typeof AXES)[number];

/** What a fit needs of a run. */
export interface FittedRun extends NoisyRun {
  row: Record<Axis, number> & { d_model: number; n_layers: number };
}

/** A test of whether shapes deviate from the fit by more than the noise between seeds. */
export interface LackOfFit {
  f: number;
  freedom: [shapes: number, seeds: number];
  p: number;
}

/** A curve's fit, over the measure of size that describes its losses better. */
export interface Fit {
  axis: Axis;
  state: FitState;
  runs: number;
  sizes: number;
  kind: CurveFit['kind'];
  /** The minimum, with 95% intervals where they are known; null unless the state is `minimum`. */
  minimum: Minimum | null;
  /** Degrees of freedom of the intervals; 0 if unknown. */
  freedom: number;
  /** Null without shapes to spare, or seeds. */
  lackOfFit: LackOfFit | null;
  depthEdge: CurveFit['depthEdge'];
  /** The lower envelope, from the smallest size to the largest. */
  line: readonly { params: number; loss: number }[];
  /** Runs with their weights in the optimal loss; empty unless the state is `minimum`. */
  weights: Weights;
  /** Where the fit is over size and depth: the same of a parabola over the size alone. */
  plain: Weights | null;
}

export interface Minimum {
  loss: number;
  lossInterval: Interval | null;
  params: number;
  paramsInterval: Interval | null;
  flopsPerPass: number;
  flopsInterval: Interval | null;
}

const LINE_POINTS = 41;

type Cells = readonly (readonly FittedRun[])[];

/** The noise of a budget's runs, and the fits of its curves by key. */
export function fitsOf(runs: readonly FittedRun[]): { noise: Noise; fits: Map<string, Fit> } {
  const noise = new Noise(runs);
  const curves = [...groupBy(runs, ({ curve }) => curve)].map(([key, ofCurve]) => {
    const cells: FittedRun[][] = [...groupBy(ofCurve, ({ cell }) => cell).values()];
    return { key, cells, fitted: betterFit(cells, noise) };
  });
  noise.pool(
    curves.flatMap(({ key, cells, fitted }) =>
      fitted === null || fitted.fit.lack.freedom === 0 || lacksFit(lackOfFit(fitted, cells, noise))
        ? []
        : [{ curve: key, ...fitted.fit.lack }],
    ),
  );
  return {
    noise,
    fits: new Map(curves.map(({ key, cells, fitted }) => [key, described(fitted, cells, noise)])),
  };
}

/** A fit over one measure of size. */
interface AxisFit {
  axis: Axis;
  fit: CurveFit;
}

/**
 * Losses are about quadratic in the logarithm of either measure, which are not quite proportional: over the parameters, or over
 * the FLOPs per pass if only the former is rejected. To take the closer of two fits would make the noise look smaller.
 */
function betterFit(cells: Cells, noise: Noise): AxisFit | null {
  const [first = null, second = null] = AXES.map((axis): AxisFit | null => {
    const fit = fitOver(axis, cells, noise);
    return fit && { axis, fit };
  });
  if (first === null || second === null) return first;
  const [rejected, other] = [first, second].map((one) => lacksFit(lackOfFit(one, cells, noise)));
  return rejected === true && other === false ? second : first;
}

/** Whether a fit has a minimum in range and describes the losses. */
export const isKnown = ({ state, lackOfFit: test }: Fit): boolean => state === 'minimum' && !lacksFit(test);

/** Whether a fit is rejected. A curve is compared with another one, so that each test has half of the level. */
export const lacksFit = (test: LackOfFit | null): boolean => test !== null && test.p < TEST_LEVEL / 2;

const places = (cells: Cells, axis: Axis): Place[] =>
  cells.map((cell) => placeOf((cell[0] as FittedRun).row, axis));

const placeOf = (row: FittedRun['row'], axis: Axis): Place => ({
  x: Math.log10(row[axis]),
  z: Math.log(row.n_layers / row.d_model),
});

function fitOver(axis: Axis, cells: Cells, noise: Noise, withDepth = true): CurveFit | null {
  return fitCurve(
    cells.map((cell): ShapeMean => {
      const { row } = cell[0] as FittedRun;
      return {
        ...placeOf(row, axis),
        layers: row.n_layers,
        cost: Math.log(row.flops_per_pass),
        loss: cell.reduce((sum, run) => sum + (noise.adjusted.get(run) as number), 0) / cell.length,
        weight: cell.length * noise.weightOf(cell[0] as FittedRun),
      };
    }),
    withDepth,
  );
}

/** The shapes' deviation from the fit over what the noise between seeds explains. */
function lackOfFit(
  { axis, fit: { lack, influence } }: AxisFit,
  cells: Cells,
  noise: Noise,
): LackOfFit | null {
  if (lack.freedom === 0 || noise.pure === null || noise.pure.freedom < NEEDED_FREEDOM) return null;
  const at = places(cells, axis);
  const unit = unitOf(cells, noise, (i) => 1 - (influence(at[i] as Place)[i] as number));
  if (unit === null) return null;
  const { variance, freedom } = unit;
  const f =
    variance === 0 ? (lack.squares < 1e-18 ? 0 : Number.MAX_VALUE) : lack.squares / lack.freedom / variance;
  return { f, freedom: [lack.freedom, freedom], p: fTail(f, lack.freedom, freedom) };
}

/**
 * The variance of a curve's runs over their weights in the fit. If it depends on the size, the weights contain it, and the
 * degrees of freedom are those of a sum over the shapes with these shares.
 */
function unitOf(cells: Cells, noise: Noise, share: (shape: number) => number): Variance | null {
  const parts = new Map<string, Variance>();
  cells.forEach((cell, i) => {
    const run = cell[0] as FittedRun;
    const own = noise.varianceOf(run);
    const old = parts.get(noise.groupOf(run))?.variance ?? 0;
    if (own !== null) {
      const variance = old + share(i) * own.variance * noise.weightOf(run);
      parts.set(noise.groupOf(run), { variance, freedom: own.freedom });
    }
  });
  if (parts.size === 0) return null;
  const total = cells.reduce((sum, _, i) => sum + share(i), 0);
  const { variance, freedom } = sumOf([...parts.values()]);
  return { variance: variance / total, freedom };
}

function described(fitted: AxisFit | null, cells: Cells, noise: Noise): Fit {
  const about = {
    runs: cells.flat().length,
    sizes: new Set(cells.map((cell) => (cell[0] as FittedRun).row.params_total)).size,
  };
  const none = {
    minimum: null,
    freedom: 0,
    depthEdge: null,
    weights: new Map<NoisyRun, number>(),
    plain: null,
  };
  if (fitted === null) {
    return {
      axis: 'params_total',
      state: 'too-few',
      kind: 'size',
      ...about,
      ...none,
      lackOfFit: null,
      line: [],
    };
  }
  const { axis, fit } = fitted;
  const [low, high] = fit.range;
  const measure = translation(axis, fit.kind, cells);
  const line = Array.from({ length: LINE_POINTS }, (_, i) => {
    const { loss, ...place } = fit.envelope(low + ((high - low) * i) / (LINE_POINTS - 1));
    return { params: measure('params_total', place), loss };
  });
  const { state, kind } = fit;
  const known = { axis, state, kind, ...about, lackOfFit: lackOfFit(fitted, cells, noise), line };
  if (fit.optimum === null) return { ...known, ...none };
  const { x, z, loss } = fit.optimum;
  const weights = weightsAt(fit, { x, z }, cells);
  const sizes = sizesOf(fit, cells, noise);
  const measured = (to: Axis) => {
    const own = to === axis ? null : minimumOver(to, cells, noise);
    if (own !== null) return own;
    const ends = sizes.interval?.map((end) => measure(to, { x: end, z })).sort((a, b) => a - b);
    const interval = ends === undefined ? null : (ends as unknown as Interval);
    return { value: measure(to, { x, z }), interval };
  };
  const [params, flops] = [measured('params_total'), measured('flops_per_pass')];
  return {
    ...known,
    minimum: {
      loss,
      lossInterval: intervalOf({ ...noise.estimate(weights, true), value: loss }),
      params: params.value,
      paramsInterval: params.interval,
      flopsPerPass: flops.value,
      flopsInterval: flops.interval,
    },
    freedom: sizes.freedom,
    depthEdge: fit.depthEdge,
    weights,
    plain: fit.kind === 'size' ? null : plainWeights(axis, cells, noise),
  };
}

/** The optimal size by a fit over another measure, in which the losses may be closer to quadratic; null if it is not known. */
function minimumOver(
  axis: Axis,
  cells: Cells,
  noise: Noise,
): { value: number; interval: Interval | null } | null {
  const fit = fitOver(axis, cells, noise);
  if (fit === null || fit.optimum === null || lacksFit(lackOfFit({ axis, fit }, cells, noise))) return null;
  const { interval } = sizesOf(fit, cells, noise);
  return { value: 10 ** fit.optimum.x, interval: interval && [10 ** interval[0], 10 ** interval[1]] };
}

/** The interval of the optimum of a fit, in log10 of its measure, and its degrees of freedom; 0 if unknown. */
function sizesOf(fit: CurveFit, cells: Cells, noise: Noise): { interval: Interval | null; freedom: number } {
  const { x, z } = fit.optimum as Place;
  // The shapes that determine the position are those that determine the slope there.
  const [above, below] = [fit.influence({ x: x + 1e-3, z }), fit.influence({ x: x - 1e-3, z })];
  const unit = unitOf(
    cells,
    noise,
    (i) => ((above[i] as number) - (below[i] as number)) ** 2 / (cells[i] as FittedRun[]).length,
  );
  if (unit === null) return { interval: null, freedom: 0 };
  const { freedom } = unit;
  if (freedom < NEEDED_FREEDOM) return { interval: null, freedom };
  const variances = cells.map((cell) => {
    const own = noise.varianceOf(cell[0] as FittedRun);
    return own === null ? Number.NaN : own.variance / cell.length;
  });
  return { interval: fit.sizeInterval(variances, freedom), freedom };
}

/** The parameters or FLOPs per pass of a place: the other measure as a quadratic of the fitted one, and of the depth. */
function translation(axis: Axis, kind: CurveFit['kind'], cells: Cells): (to: Axis, place: Place) => number {
  const at = places(cells, axis);
  const center = at.reduce((sum, { x }) => sum + x, 0) / at.length;
  const row = ({ x, z }: Place) => {
    const t = x - center;
    return kind === 'size' ? [1, t, t * t] : [1, t, t * t, z];
  };
  const other = AXES.find((one) => one !== axis) as Axis;
  const solved = leastSquares(
    at.map(row),
    places(cells, other).map(({ x }) => x),
    at.map(() => 1),
  );
  return (to, place) => 10 ** (to === axis || solved === null ? place.x : dot(solved.beta, row(place)));
}

/** Each run's weight in the fitted loss at a place. */
function weightsAt(fit: CurveFit, place: Place, cells: Cells): Weights {
  const influence = fit.influence(place);
  return new Map(
    cells.flatMap((cell, i) =>
      cell.map((run): [NoisyRun, number] => [run, (influence[i] as number) / cell.length]),
    ),
  );
}

function plainWeights(axis: Axis, cells: Cells, noise: Noise): Weights | null {
  const fit = fitOver(axis, cells, noise, false);
  return fit === null || fit.optimum === null ? null : weightsAt(fit, fit.optimum, cells);
}
