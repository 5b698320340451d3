/** Everything that the report computes from runs before it draws or judges: curves, their optima, laws across budgets. */
import { randomStream } from '../data/random.js';
import type { RunStatus } from '../results/columns.js';
import { groupBy } from './group.js';
import type { ReportRun } from './load.js';
import { type Fit, fitOptimum, type Interval } from './parabola.js';
import { fitSurface, type SurfaceFit } from './parametric.js';
import { fitPowerLaw, type PowerLaw } from './power-law.js';
import { type Setting, settingsOf } from './settings.js';

/** A run that is done and has a loss. */
export interface DoneRun extends ReportRun {
  loss: number;
  setting: Setting;
}

/** One size of a curve: the first of its seeds, with the mean loss of all. One seed may be lucky. */
export interface SizeMean extends DoneRun {
  seeds: number;
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
  /** Standard deviation of one run's loss, see `noiseOf`; null where it is not known. */
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
  runs: ReportRun[];
  done: DoneRun[];
  budgets: BudgetStudy[];
  scalings: Scaling[];
  leftOut: LeftOut[];
}

/** Computes it all; the same runs give the same numbers. */
export function studyOf(runs: readonly ReportRun[]): Study {
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
  const curves = [...groupBy(runs, ({ setting }) => setting.key).values()].map((ofSetting) =>
    curveOf(budget, ofSetting),
  );
  const best = (of: readonly Curve[], variant: string) =>
    leastLoss(knownBest(of.filter(({ setting }) => setting.variant === variant)));
  const baseline = best(curves, 'baseline');
  const { others } = (baseline ?? (leastLoss(curves) as Curve)).setting;
  const alike = curves.filter(({ setting }) => setting.others === others);
  const mod = best(alike, 'mod') ?? best(curves, 'mod');
  return { budget, curves, baseline, mod, alike, noise: noiseOf(curves) };
}

/**
 * Of several curves those whose optimum is known best: with an interval if any has one, else by a fit if any is, else all.
 * One run at a lucky size must not stand for an optimum beside curves that show theirs. A fit that lies below all that the
 * intervals allow is better all the same: that of a learning rate which has no second seed yet, say.
 */
function knownBest(curves: readonly Curve[]): readonly Curve[] {
  const fitted = curves.filter(({ optimum }) => optimum.from === 'fit');
  const known = leastLoss(curves.filter(({ optimum }) => optimum.lossInterval !== null));
  if (known === null) return fitted.length > 0 ? fitted : curves;
  const [low] = known.optimum.lossInterval as Interval;
  const below = fitted.filter(({ optimum }) => optimum.loss < low);
  return below.length > 0 ? below : [known];
}

/** The curve of least loss at its optimum; null for none. */
export function leastLoss(curves: readonly Curve[]): Curve | null {
  return curves.reduce<Curve | null>(
    (best, curve) => (best === null || curve.optimum.loss < best.optimum.loss ? curve : best),
    null,
  );
}

function curveOf(budget: number, runs: DoneRun[]): Curve {
  const { setting } = runs[0] as DoneRun;
  const fitted = bestShapes(runs);
  const fitOver = (axis: Axis) =>
    fitOptimum(
      fitted.map(({ row, loss }) => ({ x: Math.log10(row[axis]), y: loss })),
      randomStream(0, 'report', budget, setting.key, axis),
    );
  const fits = {
    params_total: fitOver('params_total'),
    flops_per_pass: fitOver('flops_per_pass'),
    tokens: fitOver('tokens'),
  };
  const best = meansOf(runs).reduce((least, size) => (size.loss < least.loss ? size : least));
  return { budget, setting, runs, fits, best, optimum: optimumOf(fits, best) };
}

/** Runs of one curve by their size: the seeds of each. */
export function sizesOf(runs: readonly DoneRun[]): DoneRun[][] {
  return [...groupBy(runs, ({ row }) => `${row.params_total} ${row.flops_per_pass}`).values()];
}

/** Whether one model is a deeper shape than another: at least 1.5 times as deep for its width. */
export function isDeeper({ row: a }: DoneRun, { row: b }: DoneRun): boolean {
  return a.n_layers / a.d_model >= 1.5 * (b.n_layers / b.d_model);
}

/** Whether the FLOPs per pass of two models, and so the tokens that a budget buys them, differ by no more than a share. */
export function asManyFlops({ row: a }: DoneRun, { row: b }: DoneRun, share: number): boolean {
  return Math.abs(a.flops_per_pass / b.flops_per_pass - 1) <= share;
}

const ONE_SIZE = 0.1;

/**
 * The runs that say what a size is worth: where deeper and wider shapes of one size were trained, those of the best shape,
 * by the mean over its seeds. A curve through all of them would show what the average shape gives.
 */
function bestShapes(runs: readonly DoneRun[]): DoneRun[] {
  const shapes = sizesOf(runs).sort((a, b) => meanLoss(a) - meanLoss(b));
  const areOneSize = ([a]: DoneRun[], [b]: DoneRun[]) =>
    a !== undefined && b !== undefined && asManyFlops(a, b, ONE_SIZE) && (isDeeper(a, b) || isDeeper(b, a));
  const kept: DoneRun[][] = [];
  for (const shape of shapes) {
    if (!kept.some((better) => areOneSize(better, shape))) kept.push(shape);
  }
  return kept.flat();
}

/** The sizes of a curve, each by its seeds' mean. */
export function meansOf(runs: readonly DoneRun[]): SizeMean[] {
  return sizesOf(runs).map((seeds) => ({
    ...(seeds[0] as DoneRun),
    loss: meanLoss(seeds),
    seeds: seeds.length,
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

/** With fewer degrees of freedom a variance says little: its 95% interval spans a factor of 40 with three. */
const ENOUGH_SEEDS = 3;

/**
 * The standard deviation of one run's loss at a budget: over seeds of runs that are equal otherwise, pooled. Where there
 * are too few of those, about the fitted curves, which a curve that is no parabola makes too large; null without either.
 */
function noiseOf(curves: readonly Curve[]): number | null {
  const seeds = pooled(curves.flatMap(({ runs }) => sizesOf(runs).map(aboutMean)));
  if (seeds.freedom >= ENOUGH_SEEDS) return Math.sqrt(seeds.squares / seeds.freedom);
  const fits = pooled(
    curves.map(({ fits }) => fits.params_total.residual).filter(({ freedom }) => freedom > 0),
  );
  return fits.freedom === 0 ? null : Math.sqrt(fits.squares / fits.freedom);
}

interface Residual {
  squares: number;
  freedom: number;
}

function aboutMean(runs: readonly DoneRun[]): Residual {
  const mean = meanLoss(runs);
  return { squares: runs.reduce((sum, { loss }) => sum + (loss - mean) ** 2, 0), freedom: runs.length - 1 };
}

const pooled = (parts: readonly Residual[]): Residual => ({
  squares: parts.reduce((sum, { squares }) => sum + squares, 0),
  freedom: parts.reduce((sum, { freedom }) => sum + freedom, 0),
});

function scalingOf(curves: Curve[]): Scaling {
  const { setting } = curves[0] as Curve;
  const law = (axis: Axis) => {
    const optima = curves.flatMap(({ budget, fits: { [axis]: fit } }) =>
      fit.x === null ? [] : [{ budget, value: 10 ** fit.x, samples: fit.samples.map(({ x }) => 10 ** x) }],
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

function leftOut({ sweep, row }: ReportRun): LeftOut[] {
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
