/** Computes the data of figures and claims: curves, their optima, power laws across budgets. */
import { randomStream } from '../random.js';
import type { LoadedRun } from '../results/load.js';
import type { RunStatus } from '../results/run-status.js';
import { mean } from '../statistics.js';
import { groupBy } from './group.js';
import { fitNoise, runInterval, seedNoise } from './noise.js';
import { type Fit, fitOptimum, type Interval } from './parabola.js';
import { fitSurface, type SurfaceFit } from './parametric.js';
import { fitPowerLaw, type PowerLaw } from './power-law.js';
import { type Setting, settingsOf } from './settings.js';

/** A finished run with a loss. */
export interface DoneRun extends LoadedRun {
  loss: number;
  setting: Setting;
}

/** One size of a curve: the run of its first seed, but with the mean loss of all seeds, as one may be an outlier. */
export interface SizeMean extends DoneRun {
  seeds: number;
  /** The runs of all seeds. */
  all: readonly DoneRun[];
}

/** The measures of a model's size. */
export type Axis = 'params_total' | 'flops_per_pass' | 'tokens';

/** The optimum of a curve: of the parabola if it has a minimum, else of its runs. */
export interface Optimum {
  from: 'fit' | 'run';
  /** The number of seeds that `loss` is averaged over; null for a fit. */
  seeds: number | null;
  loss: number;
  lossInterval: Interval | null;
  params: number;
  paramsInterval: Interval | null;
  flopsPerPass: number;
  flopsInterval: Interval | null;
}

/** The runs of one setting at one budget. */
export interface Curve {
  budget: number;
  setting: Setting;
  runs: DoneRun[];
  /** The runs that the fits use: without shapes that are worse than another shape of their size. */
  fitted: DoneRun[];
  /** Loss against the base-10 logarithm of each axis. */
  fits: Record<Axis, Fit>;
  optimum: Optimum;
  /** The size with the lowest loss. */
  best: SizeMean;
}

export interface BudgetStudy {
  budget: number;
  curves: Curve[];
  /** The dense curve with the lowest loss among those whose optimum is most certain. */
  baseline: Curve | null;
  /** The same for learned MoD curves, trained like the baseline if there is one. */
  mod: Curve | null;
  /** The curves trained like the baseline (learning rate, batch, ...), or like the best curve without a baseline. */
  alike: Curve[];
  /** Standard deviation of one run's loss over seeds, else around the fits; null if unknown. */
  noise: number | null;
}

/** Power laws across budgets for one setting. */
export interface Scaling {
  setting: Setting;
  params: PowerLaw | null;
  tokens: PowerLaw | null;
  flopsPerPass: PowerLaw | null;
  surface: SurfaceFit | null;
}

export interface LeftOut {
  sweep: string;
  run_id: string;
  status: RunStatus;
  reason: string;
}

export interface Study {
  runs: LoadedRun[];
  done: DoneRun[];
  budgets: BudgetStudy[];
  scalings: Scaling[];
  leftOut: LeftOut[];
}

/** The study of some runs. Deterministic: the same runs give the same numbers. */
export function studyOf(runs: readonly LoadedRun[]): Study {
  const settings = settingsOf(runs.map(({ spec }) => spec));
  const done = runs.flatMap((run, i) => {
    const { status, loss } = run.row;
    const usable = status === 'done' && loss !== null && Number.isFinite(loss);
    return usable ? [{ ...run, loss, setting: settings[i] as Setting }] : [];
  });
  const byBudget = groupBy(done, ({ row }) => row.flop_budget);
  const budgets = [...byBudget]
    .sort(([a], [b]) => a - b)
    .map(([budget, ofBudget]) => budgetStudy(budget, ofBudget));
  const curves = budgets.flatMap((budget) => budget.curves);
  const scalings = [...groupBy(curves, ({ setting }) => setting.key).values()].map(scalingOf);
  return { runs: [...runs], done, budgets, scalings, leftOut: runs.flatMap(leftOut) };
}

function budgetStudy(budget: number, runs: DoneRun[]): BudgetStudy {
  const settings = [...groupBy(runs, ({ setting }) => setting.key).values()];
  const ofSeeds = seedNoise(settings.flatMap(sizesOf));
  const curves = settings.map((ofSetting) => curveOf(budget, ofSetting, ofSeeds));
  const noise = ofSeeds ?? fitNoise(curves.map(({ fits }) => fits.params_total.residual));
  const best = (of: readonly Curve[], variant: string) =>
    leastLoss(mostCertain(of.filter(({ setting }) => setting.variant === variant)));
  const baseline = best(curves, 'baseline');
  const { others } = (baseline ?? (leastLoss(curves) as Curve)).setting;
  const alike = curves.filter(({ setting }) => setting.others === others);
  const mod = best(alike, 'mod') ?? best(curves, 'mod');
  return { budget, curves, baseline, mod, alike, noise };
}

/**
 * The curves whose optimum is most certain, since a single run must not compete with fitted minima: the best curve with an
 * interval, and every fit below the lower end of that interval, such as that of a learning rate without a second seed.
 * Without intervals, all curves with a fit; without fits, all curves.
 */
function mostCertain(curves: readonly Curve[]): readonly Curve[] {
  const fitted = curves.filter(({ optimum }) => optimum.from === 'fit');
  if (fitted.length === 0) return curves;
  const known = leastLoss(fitted.filter(({ optimum }) => optimum.lossInterval !== null));
  if (known === null) return fitted;
  const [low] = known.optimum.lossInterval as Interval;
  return [known, ...fitted.filter(({ optimum }) => optimum.loss < low)];
}

/** The curve with the lowest loss at its optimum; null for none. */
export function leastLoss(curves: readonly Curve[]): Curve | null {
  return curves.reduce<Curve | null>(
    (best, curve) => (best === null || curve.optimum.loss < best.optimum.loss ? curve : best),
    null,
  );
}

function curveOf(budget: number, runs: DoneRun[], noise: number | null): Curve {
  const { setting } = runs[0] as DoneRun;
  const fitted = withoutWorseShapes(runs, noise);
  const fitOver = (axis: Axis) =>
    fitOptimum(
      fitted.map(({ row, loss }) => ({ x: Math.log10(row[axis]), y: loss })),
      randomStream(0, 'report', budget, setting.key, axis),
      noise,
    );
  const fits = {
    params_total: fitOver('params_total'),
    flops_per_pass: fitOver('flops_per_pass'),
    tokens: fitOver('tokens'),
  };
  const best = meansOf(runs).reduce((least, size) => (size.loss < least.loss ? size : least));
  return { budget, setting, runs, fitted, fits, best, optimum: optimumOf(fits, best) };
}

/** The runs of one curve grouped by size: the seeds of each. */
export function sizesOf(runs: readonly DoneRun[]): DoneRun[][] {
  return [...groupBy(runs, sizeKey).values()];
}

const sizeKey = ({ row }: DoneRun) => `${row.params_total} ${row.flops_per_pass}`;

/** Whether one model is a deeper shape than another: at least 1.5 times as deep for its width. */
export function isDeeper({ row: a }: DoneRun, { row: b }: DoneRun): boolean {
  return a.n_layers / a.d_model >= 1.5 * (b.n_layers / b.d_model);
}

/** Whether the FLOPs per pass of two models differ by at most a share; so do the tokens of an equal budget. */
export function haveSimilarFlops({ row: a }: DoneRun, { row: b }: DoneRun, share: number): boolean {
  return Math.abs(Math.log(a.flops_per_pass / b.flops_per_pass)) <= Math.log1p(share);
}

/** Relative difference of FLOPs per pass within one size: half a step between sizes that differ by a factor of 1.4. */
const SAME_SIZE = 0.2;

/**
 * The runs that a curve is fitted to. Of deeper and wider shapes of one size, those that are worse than the best are left
 * out: a curve through all of them would show the average shape. A shape is worse if the noise between seeds does not
 * explain the difference at 95%, since keeping only the luckiest would bias the curve. If the noise is unknown, all are kept.
 */
function withoutWorseShapes(runs: readonly DoneRun[], noise: number | null): DoneRun[] {
  const shapes = meansOf(runs).sort((a, b) => a.loss - b.loss);
  const areSameSize = (a: SizeMean, b: SizeMean) =>
    haveSimilarFlops(a, b, SAME_SIZE) && (isDeeper(a, b) || isDeeper(b, a));
  const kept: SizeMean[] = [];
  for (const shape of shapes) {
    const isWorseThan = (better: SizeMean) => {
      const by = runInterval(shape.loss - better.loss, noise, shape.seeds, better.seeds);
      return by !== null && by[0] > 0 && areSameSize(better, shape);
    };
    if (!kept.some(isWorseThan)) kept.push(shape);
  }
  const sizes = new Set(kept.map(sizeKey));
  return runs.filter((run) => sizes.has(sizeKey(run)));
}

/** The sizes of a curve, each with the mean loss of its seeds. */
export function meansOf(runs: readonly DoneRun[]): SizeMean[] {
  return sizesOf(runs).map((seeds) => ({
    ...(seeds[0] as DoneRun),
    loss: meanLoss(seeds),
    seeds: seeds.length,
    all: seeds,
  }));
}

function optimumOf(fits: Curve['fits'], best: SizeMean): Optimum {
  const { params_total: byParams, flops_per_pass: byFlops } = fits;
  if (byParams.x !== null && byParams.y !== null && byFlops.x !== null) {
    return {
      from: 'fit',
      seeds: null,
      loss: byParams.y,
      lossInterval: byParams.yInterval,
      params: 10 ** byParams.x,
      paramsInterval: powers(byParams.xInterval),
      flopsPerPass: 10 ** byFlops.x,
      flopsInterval: powers(byFlops.xInterval),
    };
  }
  const { params_total, flops_per_pass } = best.row;
  return {
    from: 'run',
    seeds: best.seeds,
    loss: best.loss,
    lossInterval: null,
    params: params_total,
    paramsInterval: null,
    flopsPerPass: flops_per_pass,
    flopsInterval: null,
  };
}

const powers = (logs: Interval | null): Interval | null => logs && [10 ** logs[0], 10 ** logs[1]];

/** Mean held-out loss, in nats per token. */
export function meanLoss(runs: readonly DoneRun[]): number {
  return mean(runs.map(({ loss }) => loss));
}

function scalingOf(curves: Curve[]): Scaling {
  const { setting } = curves[0] as Curve;
  const law = (axis: Axis) => {
    const optima = curves.flatMap(({ budget, fits: { [axis]: fit } }) =>
      fit.x === null ? [] : [{ budget, value: 10 ** fit.x, samples: sampledX(fit).map((x) => 10 ** x) }],
    );
    return fitPowerLaw(optima);
  };
  const points = curves.flatMap(({ runs }) =>
    runs.map(({ row, loss }) => ({ params: row.params_total, tokens: row.tokens, loss })),
  );
  return {
    setting,
    params: law('params_total'),
    tokens: law('tokens'),
    flopsPerPass: law('flops_per_pass'),
    surface: fitSurface(points, curves.length, randomStream(0, 'report', 'surface', setting.key)),
  };
}

/** The resampled positions of a fit's optimum; none if its interval is unknown. */
export const sampledX = (fit: Fit): number[] => (fit.xInterval === null ? [] : fit.samples.map(({ x }) => x));

function leftOut({ sweep, row }: LoadedRun): LeftOut[] {
  const { run_id, status, loss, note } = row;
  if (status === 'done' && loss !== null && Number.isFinite(loss)) return [];
  return [{ sweep, run_id, status, reason: note ?? REASONS[status] }];
}

const REASONS: Record<RunStatus, string> = {
  pending: 'not started',
  running: 'still training',
  done: 'has no loss',
  diverged: 'its loss or gradient norm was not finite',
  'out-of-memory': 'out of memory',
  failed: 'failed',
  interrupted: 'stopped before the end',
  skipped: 'cannot be trained',
};
