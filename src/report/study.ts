/** Computes the data of figures and claims: curves, their optima, power laws across budgets. */
import { randomStream } from '../random.js';
import type { LoadedRun } from '../results/load.js';
import type { RunStatus } from '../results/run-status.js';
import { mean } from '../statistics.js';
import type { Interval } from './curve-fit.js';
import { distinctRuns, type Repeat, repeatReason } from './distinct.js';
import { type Doubt, doubtOf } from './doubts.js';
import { type Fit, type FittedRun, fitsOf, isKnown, type Minimum } from './fits.js';
import { groupBy } from './group.js';
import { fitJointLaw, type JointLaw } from './joint-law.js';
import type { Noise } from './noise.js';
import { fitSurface, type SurfaceFit } from './parametric.js';
import { fitPowerLaw, type PowerLaw } from './power-law.js';
import { type Setting, settingsOf } from './settings.js';

/** A finished run with a loss. */
export interface DoneRun extends LoadedRun, Pick<FittedRun, 'seed' | 'cell' | 'curve' | 'size'> {
  loss: number;
  setting: Setting;
}

/** One size of a curve: the run of its first seed, but with the mean loss of all seeds, as one may be an outlier. */
export interface SizeMean extends DoneRun {
  seeds: number;
  /** The runs of all seeds. */
  all: readonly DoneRun[];
}

/** The optimum of a curve: of its fit if that has a minimum and is not rejected, else the size with the lowest loss. */
export interface Optimum extends Minimum {
  /** `run`: the optimum is not known; the numbers are those of the lowest run, and no verdict rests on them. */
  from: 'fit' | 'run';
}

/** The runs of one setting at one budget. */
export interface Curve {
  budget: number;
  setting: Setting;
  runs: DoneRun[];
  fit: Fit;
  optimum: Optimum;
  /** Why no verdict may rest on the optimum; null if one may. */
  doubt: Doubt | null;
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
  noise: Noise;
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
  /** Dense and MoD runs of all budgets by one surface; null without two budgets of both. */
  joint: JointLaw | null;
  /** Runs that are in several places, each left out but once. */
  repeats: Repeat[];
  leftOut: LeftOut[];
}

/**
 * The study of some runs. Deterministic: the same runs give the same numbers.
 *
 * @throws InputError if two copies of a deterministic run differ
 */
export function studyOf(runs: readonly LoadedRun[]): Study {
  const { distinct, repeats } = distinctRuns(runs);
  const settings = settingsOf(distinct.map(({ spec }) => spec));
  const done = distinct.flatMap((run, i): DoneRun[] => {
    const { status, loss } = run.row;
    const usable = status === 'done' && loss !== null && Number.isFinite(loss);
    return usable ? [doneRun(run, loss, settings[i] as Setting)] : [];
  });
  const byBudget = groupBy(done, ({ row }) => row.flop_budget);
  const budgets = [...byBudget]
    .sort(([a], [b]) => a - b)
    .map(([budget, ofBudget]) => budgetStudy(budget, ofBudget));
  const curves = budgets.flatMap((budget) => budget.curves);
  const scalings = [...groupBy(curves, ({ setting }) => setting.key).values()].map(scalingOf);
  const joint = fitJointLaw(
    budgets.flatMap(({ alike }) => alike.flatMap((curve) => curve.runs)),
    randomStream(0, 'report', 'joint law'),
  );
  return {
    runs: [...runs],
    done,
    budgets,
    scalings,
    joint,
    repeats,
    leftOut: [...distinct.flatMap(leftOut), ...repeats.map(repeated)],
  };
}

function doneRun(run: LoadedRun, loss: number, setting: Setting): DoneRun {
  const { d_model, n_layers, n_heads, d_ff, params_total } = run.row;
  return {
    ...run,
    loss,
    setting,
    seed: run.row.seed,
    cell: `${setting.key}\n${[d_model, n_layers, n_heads, d_ff].join()}`,
    curve: setting.key,
    size: params_total,
  };
}

function budgetStudy(budget: number, runs: DoneRun[]): BudgetStudy {
  const settings = [...groupBy(runs, ({ setting }) => setting.key).values()];
  const { noise, fits } = fitsOf(runs);
  const curves = settings.map((ofSetting) => curveOf(budget, ofSetting, fits.get(ofSetting[0].curve) as Fit));
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

function curveOf(budget: number, runs: readonly [DoneRun, ...DoneRun[]], fit: Fit): Curve {
  const [{ setting }] = runs;
  const best = meansOf(runs).reduce((least, size) => (size.loss < least.loss ? size : least));
  const optimum = optimumOf(fit, best);
  return { budget, setting, runs: [...runs], fit, best, optimum, doubt: doubtOf(setting.name, fit, best) };
}

/** The runs of one curve grouped by size: the seeds of each. */
export function sizesOf(runs: readonly DoneRun[]): DoneRun[][] {
  return [...groupBy(runs, ({ cell }) => cell).values()];
}

/** Whether one model is a deeper shape than another: at least 1.5 times as deep for its width. */
export function isDeeper({ row: a }: DoneRun, { row: b }: DoneRun): boolean {
  return a.n_layers / a.d_model >= 1.5 * (b.n_layers / b.d_model);
}

/** Whether the FLOPs per pass of two models differ by at most a share; so do the tokens of an equal budget. */
export function haveSimilarFlops({ row: a }: DoneRun, { row: b }: DoneRun, share: number): boolean {
  return Math.abs(Math.log(a.flops_per_pass / b.flops_per_pass)) <= Math.log1p(share);
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

function optimumOf(fit: Fit, best: SizeMean): Optimum {
  if (isKnown(fit) && fit.minimum !== null) return { from: 'fit', ...fit.minimum };
  const { params_total, flops_per_pass } = best.row;
  return {
    from: 'run',
    loss: best.loss,
    lossInterval: null,
    params: params_total,
    paramsInterval: null,
    flopsPerPass: flops_per_pass,
    flopsInterval: null,
  };
}

/** Mean held-out loss, in nats per token. */
export function meanLoss(runs: readonly DoneRun[]): number {
  return mean(runs.map(({ loss }) => loss));
}

function scalingOf(curves: readonly [Curve, ...Curve[]]): Scaling {
  const [{ setting }] = curves;
  const known = curves.filter(({ optimum }) => optimum.from === 'fit');
  const law = (measure: 'params' | 'flopsPerPass', interval: 'paramsInterval' | 'flopsInterval') =>
    fitPowerLaw(
      known.map(({ budget, optimum, fit }) => ({
        budget,
        value: optimum[measure],
        interval: optimum[interval],
        freedom: fit.freedom,
      })),
    );
  const points = curves.flatMap(({ runs }) =>
    runs.map(({ row, loss, cell }) => ({
      params: row.params_total,
      tokens: row.tokens,
      loss,
      cell: `${row.flop_budget} ${cell}`,
    })),
  );
  const flopsPerPass = law('flopsPerPass', 'flopsInterval');
  return {
    setting,
    params: law('params', 'paramsInterval'),
    tokens: flopsPerPass && tokensOf(flopsPerPass, known[0] as Curve),
    flopsPerPass,
    surface: fitSurface(points, curves.length, randomStream(0, 'report', 'surface', setting.key)),
  };
}

/** Tokens are the budget over 3 times the FLOPs per pass of a token. */
function tokensOf(law: PowerLaw, { runs }: Curve): PowerLaw {
  const { exponent, exponentInterval, coefficient, budgets } = law;
  const { sequence_length } = (runs[0] as DoneRun).row;
  return {
    exponent: 1 - exponent,
    coefficient: sequence_length / (3 * coefficient),
    exponentInterval: exponentInterval && [1 - exponentInterval[1], 1 - exponentInterval[0]],
    budgets,
  };
}

const repeated = (repeat: Repeat): LeftOut => ({
  sweep: repeat.run.sweep,
  run_id: repeat.run.row.run_id,
  status: repeat.run.row.status,
  reason: repeatReason(repeat),
});

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
