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

/** What the size of a model is measured in. */
export type Axis = 'params_total' | 'flops_per_pass' | 'tokens';

/** The best of a curve: of the parabola where it has a minimum, else of its runs. */
export interface Optimum {
  from: 'fit' | 'run';
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
  /** The run of least loss, seeds of a size averaged; of them the first. */
  best: DoneRun;
}

export interface BudgetStudy {
  budget: number;
  curves: Curve[];
  baseline: Curve | null;
  /** The learned MoD curve of least loss. */
  mod: Curve | null;
  /** Standard deviation of one run's loss about its curve, over all curves; null where no curve has more runs than a parabola takes. */
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
  const best = (variant: string) => leastLoss(curves.filter(({ setting }) => setting.variant === variant));
  return { budget, curves, baseline: best('baseline'), mod: best('mod'), noise: noiseOf(curves) };
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
  const fitOver = (axis: Axis) =>
    fitOptimum(
      runs.map(({ row, loss }) => ({ x: Math.log10(row[axis]), y: loss })),
      randomStream(0, 'report', budget, setting.key, axis),
    );
  const fits = {
    params_total: fitOver('params_total'),
    flops_per_pass: fitOver('flops_per_pass'),
    tokens: fitOver('tokens'),
  };
  const best = bestRun(runs);
  return { budget, setting, runs, fits, best, optimum: optimumOf(fits, best, runs) };
}

/** The first run of the size whose seeds have the least mean loss. */
function bestRun(runs: readonly DoneRun[]): DoneRun {
  const sizes = [...groupBy(runs, ({ row }) => `${row.params_total} ${row.flops_per_pass}`).values()];
  return sizes.reduce((best, size) => (meanLoss(size) < meanLoss(best) ? size : best))[0] as DoneRun;
}

function optimumOf(fits: Curve['fits'], best: DoneRun, runs: readonly DoneRun[]): Optimum {
  const { params_total: byParams, flops_per_pass: byFlops } = fits;
  if (byParams.x !== null && byParams.y !== null && byFlops.x !== null) {
    return {
      from: 'fit',
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
    loss: meanLoss(
      runs.filter(({ row }) => row.params_total === params_total && row.flops_per_pass === flops_per_pass),
    ),
    lossInterval: null,
    params: params_total,
    paramsInterval: null,
    flopsPerPass: flops_per_pass,
    flopsInterval: null,
  };
}

const powers = (logs: Interval | null): Interval | null => logs && [10 ** logs[0], 10 ** logs[1]];

function meanLoss(runs: readonly DoneRun[]): number {
  return runs.reduce((sum, { loss }) => sum + loss, 0) / runs.length;
}

function noiseOf(curves: readonly Curve[]): number | null {
  const residuals = curves.map(({ fits }) => fits.params_total.residual).filter(({ freedom }) => freedom > 0);
  const freedom = residuals.reduce((sum, residual) => sum + residual.freedom, 0);
  return freedom === 0 ? null : Math.sqrt(residuals.reduce((sum, { squares }) => sum + squares, 0) / freedom);
}

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
