/** Everything that the report computes from runs before it draws or judges: curves, their optima, laws across budgets. */
import { randomStream } from '../random.js';
import type { RunStatus } from '../results/columns.js';
import type { LoadedRun } from '../results/load.js';
import { groupBy } from './group.js';
import { fitNoise, runInterval, seedNoise } from './noise.js';
import { type Fit, fitOptimum, type Interval } from './parabola.js';
import { fitSurface, type SurfaceFit } from './parametric.js';
import { fitPowerLaw, type PowerLaw } from './power-law.js';
import { type Setting, settingsOf } from './settings.js';

/** A run that is done and has a loss. */
export interface DoneRun extends LoadedRun {
  loss: number;
  setting: Setting;
}

/** One size of a curve: the first of its seeds, with the mean loss of all. One seed may be lucky. */
export interface SizeMean extends DoneRun {
  seeds: number;
  /** Those seeds. */
  all: readonly DoneRun[];
}

/** What the size of a model is measured in. */
export type Axis = 'params_total' | 'flops_per_pass' | 'tokens';

/** The best of a curve: of the parabola where it has a minimum, else of its runs. */
export interface Optimum {
  from: 'fit' | 'run';
  /** Of how many seeds of one size `loss` is the mean; null for a fit's. */
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
  /** Those of the runs that the fits go through: without shapes that another one of their size beats. */
  fitted: DoneRun[];
  /** Loss against the logarithm, to the base 10, of each. */
  fits: Record<Axis, Fit>;
  optimum: Optimum;
  /** The size of least loss. */
  best: SizeMean;
}

export interface BudgetStudy {
  budget: number;
  curves: Curve[];
  /** The dense curve of least loss, of those whose optimum is known best. */
  baseline: Curve | null;
  /** The learned MoD curve of least loss, likewise, trained like the baseline where there is one. */
  mod: Curve | null;
  /** The curves that are trained like the baseline, in learning rate and the like; without one like the best curve. */
  alike: Curve[];
  /** Standard deviation of one run's loss, over seeds, else about the fits; null where it is not known. */
  noise: number | null;
}

/** Laws across budgets for one setting. */
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

/** Computes it all; the same runs give the same numbers. */
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
    leastLoss(knownBest(of.filter(({ setting }) => setting.variant === variant)));
  const baseline = best(curves, 'baseline');
  const { others } = (baseline ?? (leastLoss(curves) as Curve)).setting;
  const alike = curves.filter(({ setting }) => setting.others === others);
  const mod = best(alike, 'mod') ?? best(curves, 'mod');
  return { budget, curves, baseline, mod, alike, noise };
}

/**
 * Of several curves those whose optimum is known best. One run at a lucky size must not stand for an optimum beside curves
 * that show theirs: so the best of those with an interval, and without any of those the ones with a fit. But a fit that lies
 * below all that the best interval allows is better all the same: that of a learning rate which has no second seed yet, say.
 */
function knownBest(curves: readonly Curve[]): readonly Curve[] {
  const fitted = curves.filter(({ optimum }) => optimum.from === 'fit');
  if (fitted.length === 0) return curves;
  const known = leastLoss(fitted.filter(({ optimum }) => optimum.lossInterval !== null));
  if (known === null) return fitted;
  const [low] = known.optimum.lossInterval as Interval;
  return [known, ...fitted.filter(({ optimum }) => optimum.loss < low)];
}

/** The curve of least loss at its optimum; null for none. */
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

/** Runs of one curve by their size: the seeds of each. */
export function sizesOf(runs: readonly DoneRun[]): DoneRun[][] {
  return [...groupBy(runs, sizeKey).values()];
}

const sizeKey = ({ row }: DoneRun) => `${row.params_total} ${row.flops_per_pass}`;

/** Whether one model is a deeper shape than another: at least 1.5 times as deep for its width. */
export function isDeeper({ row: a }: DoneRun, { row: b }: DoneRun): boolean {
  return a.n_layers / a.d_model >= 1.5 * (b.n_layers / b.d_model);
}

/** Whether the FLOPs per pass of two models, and so the tokens that a budget buys them, differ by no more than a share. */
export function asManyFlops({ row: a }: DoneRun, { row: b }: DoneRun, share: number): boolean {
  return Math.abs(Math.log(a.flops_per_pass / b.flops_per_pass)) <= Math.log1p(share);
}

/** Half a step between sizes that are a factor of 1.4 apart. */
const ONE_SIZE = 0.2;

/**
 * The runs that say what a size is worth: where deeper and wider shapes of one size were trained, those that are worse than
 * the best of them are left out. A curve through all of them would show what the average shape gives. Worse are those that
 * 95% of the noise between seeds does not explain: a curve of the luckier ones would lie too low. Where that noise is not
 * known, none is.
 */
function withoutWorseShapes(runs: readonly DoneRun[], noise: number | null): DoneRun[] {
  const shapes = meansOf(runs).sort((a, b) => a.loss - b.loss);
  const areOneSize = (a: SizeMean, b: SizeMean) =>
    asManyFlops(a, b, ONE_SIZE) && (isDeeper(a, b) || isDeeper(b, a));
  const kept: SizeMean[] = [];
  for (const shape of shapes) {
    const isWorseThan = (better: SizeMean) => {
      const by = runInterval(shape.loss - better.loss, noise, shape.seeds, better.seeds);
      return by !== null && by[0] > 0 && areOneSize(better, shape);
    };
    if (!kept.some(isWorseThan)) kept.push(shape);
  }
  const sizes = new Set(kept.map(sizeKey));
  return runs.filter((run) => sizes.has(sizeKey(run)));
}

/** The sizes of a curve, each by its seeds' mean. */
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

/** Mean held-out loss, in nats a token. */
export function meanLoss(runs: readonly DoneRun[]): number {
  return runs.reduce((sum, { loss }) => sum + loss, 0) / runs.length;
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

/** The resamples of a fit's place whose interval is known; of one that seldom has its optimum in range there are none. */
export const sampledX = (fit: Fit): number[] => (fit.xInterval === null ? [] : fit.samples.map(({ x }) => x));

function leftOut({ sweep, row }: LoadedRun): LeftOut[] {
  const { run_id, status, loss, note } = row;
  if (status === 'done' && loss !== null && Number.isFinite(loss)) return [];
  return [{ sweep, run_id, status, reason: note ?? REASONS[status] }];
}

const REASONS: Record<RunStatus, string> = {
  pending: 'not started',
  running: 'still trains',
  done: 'has no loss',
  diverged: 'its loss became infinite',
  'out-of-memory': 'memory did not suffice',
  failed: 'failed',
  interrupted: 'stopped before its end',
  skipped: 'cannot be trained',
};
