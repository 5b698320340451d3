/** The best learning rate of each kind of model: a parabola of the loss over ln(rate), from the runs of `mod tune`. */
import { automaticLearningRate } from '../plan/learning-rate.js';
import type { RunSpec } from '../plan/run.js';
import type { RunRow } from '../results/columns.js';
import { hasEnded } from '../results/run-status.js';
import { mean } from '../statistics.js';
import { type CurveFit, fitCurve, type Interval } from './curve-fit.js';
import { fTail } from './distributions.js';
import { NEEDED_FREEDOM, TEST_LEVEL, type Variance } from './estimate.js';
import { groupBy } from './group.js';
import { Noise } from './noise.js';
import type { NoisyRun } from './seed-effects.js';
import { settingsOf } from './settings.js';
import { budgetName } from './words.js';

/** Where the optimum is among the rates that are fitted. */
export type OptimumPlace =
  | 'between'
  /** At or below the lowest rate, or at or above the highest. */
  | 'lowest'
  | 'highest'
  /** The parabola does not bend upwards, and the lowest loss is not at an end. */
  | 'unclear'
  /** Fewer than three rates can be fitted. */
  | 'too-few';

export interface TunedRate {
  /** Of the default rate of `complete`. */
  multiple: number;
  /** Mean over the seeds that are done; null if none is. */
  loss: number | null;
  /** Number of these seeds. */
  seeds: number;
  /** Number of seeds that have not ended. */
  left: number;
  /** Training diverges or breaks at this rate, which is left out of the fit. */
  breaks: boolean;
}

export interface TunedKind {
  /** `dense`, `MoD 12.5%, every other block`. */
  kind: string;
  /** By increasing rate. */
  rates: TunedRate[];
  optimum: OptimumPlace;
  /** The multiple at the minimum of the parabola; the best of the rates that were tried if the optimum is not between them. */
  best: number | null;
  /** 95% interval of the optimum; null if it is not bounded, or the noise is unknown. */
  interval: Interval | null;
  /** The fitted loss at the optimum; null unless it is between the rates. */
  loss: number | null;
}

export interface TuningRun {
  spec: RunSpec;
  row: Pick<RunRow, 'status' | 'loss' | 'seed'>;
}

/**
 * A rate above the best one whose mean loss exceeds the best by more than this share is beyond the edge of stable training:
 * there the loss rises far more steeply than the parabola around the optimum.
 */
const BROKEN = 0.05;

/** Fits every kind of model, with one estimate of the noise. */
export function tuneKinds(runs: readonly TuningRun[]): TunedKind[] {
  const kinds = [...groupBy(runs, kindsOf(runs))].map(([kind, ofKind]) => ({ kind, rates: ratesOf(ofKind) }));
  const cells = kinds.map(({ kind, rates }) => cellsOf(kind, rates));
  const noise = new Noise(cells.flatMap((ofKind) => ofKind.flatMap(({ runs: ofCell }) => ofCell)));
  const fits = cells.map((ofKind) => fitOver(ofKind, noise));
  noise.pool(
    kinds.flatMap(({ kind }, i) => {
      const fit = fits[i] ?? null;
      return fit === null || fit.lack.freedom === 0 || lacksFit(fit, noise)
        ? []
        : [{ curve: kind, ...fit.lack }];
    }),
  );
  return kinds.map(({ kind, rates }, i) => ({
    kind,
    rates: rates.map(({ ofRate: _, ...rate }) => rate),
    ...described(
      cells[i] as Cell[],
      fits[i] ?? null,
      noise,
      rates.some((rate) => rate.breaks),
    ),
  }));
}

/** The kinds that cannot be trained at the base shape, and why. */
export function infeasibleKinds(
  runs: readonly (Pick<TuningRun, 'spec'> & { row: Pick<RunRow, 'status' | 'note'> })[],
): { kind: string; reason: string }[] {
  const skipped = runs.filter(({ row }) => row.status === 'skipped');
  return [...groupBy(skipped, kindsOf(skipped))].map(([kind, [{ row }]]) => ({
    kind,
    reason: row.note ?? '',
  }));
}

/** The kind of each run: its setting without the learning rate, and the budget if there are several. */
function kindsOf<Run extends Pick<TuningRun, 'spec'>>(runs: readonly Run[]): (run: Run) => string {
  const specs = runs.map(({ spec }) => ({ ...spec, training: { ...spec.training, learning_rate: 1 } }));
  const budgets = new Set(specs.map(({ flop_budget }) => flop_budget));
  const labels = settingsOf(specs).map(({ label }, i) => {
    const budget = budgetName((specs[i] as RunSpec).flop_budget);
    return budgets.size === 1 ? label : `${label}, ${budget} FLOPs`;
  });
  const ofRun = new Map(runs.map((run, i) => [run, labels[i] as string]));
  return (run) => ofRun.get(run) as string;
}

type Rate = TunedRate & { ofRate: readonly TuningRun[] };

function ratesOf(runs: readonly TuningRun[]): Rate[] {
  const rates = [...groupBy(runs, ({ spec }) => spec.training.learning_rate)].map(([rate, ofRate]): Rate => {
    const losses = ofRate.flatMap(({ row }) => lossOf(row) ?? []);
    const { d_model } = ofRate[0].spec.model;
    return {
      multiple: Number((rate / automaticLearningRate('complete', d_model)).toPrecision(12)),
      loss: losses.length === 0 ? null : mean(losses),
      seeds: losses.length,
      left: ofRate.filter(({ row }) => !hasEnded(row.status)).length,
      breaks: ofRate.some(({ row }) => row.status === 'diverged'),
      ofRate,
    };
  });
  rates.sort((a, b) => a.multiple - b.multiple);
  const losses = rates.map(({ loss, breaks }) => (breaks || loss === null ? Number.POSITIVE_INFINITY : loss));
  const lowest = Math.min(...losses);
  const best = losses.indexOf(lowest);
  const isBroken = ({ loss, breaks }: Rate, i: number) =>
    i > best && (breaks || (loss !== null && loss > (1 + BROKEN) * lowest));
  const firstBroken = rates.findIndex(isBroken);
  return rates.map((rate, i) => ({ ...rate, breaks: rate.breaks || (firstBroken >= 0 && i >= firstBroken) }));
}

const lossOf = ({ status, loss }: TuningRun['row']) => (status === 'done' ? loss : null);

/** The runs of one rate that are fitted. */
interface Cell {
  multiple: number;
  runs: NoisyRun[];
}

function cellsOf(kind: string, rates: readonly Rate[]): Cell[] {
  return rates
    .filter(({ breaks, loss }) => !breaks && loss !== null)
    .map(({ multiple, ofRate }) => ({
      multiple,
      runs: ofRate.flatMap(({ row }): NoisyRun[] => {
        const loss = lossOf(row);
        return loss === null
          ? []
          : [{ loss, seed: row.seed, cell: `${kind} ${multiple}`, curve: kind, size: 0 }];
      }),
    }));
}

const adjustedMean = ({ runs }: Cell, noise: Noise) =>
  mean(runs.map((run) => noise.adjusted.get(run) as number));

function fitOver(cells: readonly Cell[], noise: Noise): CurveFit | null {
  return fitCurve(
    cells.map((cell) => ({
      x: Math.log(cell.multiple),
      z: 0,
      layers: 0,
      cost: 0,
      loss: adjustedMean(cell, noise),
      weight: cell.runs.length,
    })),
    false,
  );
}

/** Whether the rates deviate from the parabola by more than the seeds explain. */
function lacksFit({ lack: { squares, freedom } }: CurveFit, { pure }: Noise): boolean {
  if (pure === null || pure.freedom < NEEDED_FREEDOM || freedom === 0) return false;
  return fTail(squares / freedom / pure.variance, freedom, pure.freedom) < TEST_LEVEL;
}

function described(
  cells: readonly Cell[],
  fit: CurveFit | null,
  noise: Noise,
  breaks: boolean,
): Pick<TunedKind, 'optimum' | 'best' | 'interval' | 'loss'> {
  const least = cells.reduce<Cell | null>(
    (low, cell) => (low === null || adjustedMean(cell, noise) < adjustedMean(low, noise) ? cell : low),
    null,
  );
  const tried = { best: least?.multiple ?? null, interval: null, loss: null };
  if (fit === null) {
    const place =
      breaks && cells.length > 0 ? placeAmong(cells.indexOf(least as Cell), cells.length) : 'too-few';
    return { optimum: place, ...tried };
  }
  const at = cells.indexOf(least as Cell);
  if (fit.optimum === null) return { optimum: placeOf(fit, at, cells.length), ...tried };
  const { x, loss } = fit.optimum;
  const interval = intervalOf(cells, fit, noise);
  const ends = [cells.at(0), cells.at(-1)].map((cell) => cell?.multiple) as [number, number];
  const isInside = interval !== null && interval[0] >= ends[0] && interval[1] <= ends[1];
  // The parabola alone does not show that the loss rises beyond the rates that were tried.
  const place = isInside ? 'unclear' : placeAmong(at, cells.length);
  if (place !== 'unclear') return { optimum: place, ...tried };
  return { optimum: 'between', best: Math.exp(x), interval, loss };
}

function placeOf({ state }: CurveFit, least: number, count: number): OptimumPlace {
  if (state === 'below') return 'lowest';
  if (state === 'above') return 'highest';
  return placeAmong(least, count);
}

function placeAmong(least: number, count: number): OptimumPlace {
  if (least === 0) return 'lowest';
  return least === count - 1 ? 'highest' : 'unclear';
}

/** If the parabola does not describe the rates, their deviations from it count as noise. */
function intervalOf(cells: readonly Cell[], fit: CurveFit, noise: Noise): Interval | null {
  const [first] = cells as [Cell];
  const { squares, freedom } = fit.lack;
  const unit: Variance | null = lacksFit(fit, noise)
    ? { variance: squares / freedom, freedom }
    : noise.varianceOf(first.runs[0] as NoisyRun);
  if (unit === null || unit.freedom < NEEDED_FREEDOM) return null;
  const interval = fit.sizeInterval(
    cells.map(({ runs }) => unit.variance / runs.length),
    unit.freedom,
  );
  return interval && [Math.exp(interval[0]), Math.exp(interval[1])];
}

/** The rate for all kinds: the geometric mean of their optima, and whether it is in every interval that is known. */
export function commonRate(kinds: readonly TunedKind[]): { multiple: number; suitsAll: boolean } | null {
  const known = kinds.flatMap(({ best }) => best ?? []);
  if (known.length === 0) return null;
  const multiple = Number(Math.exp(mean(known.map(Math.log))).toPrecision(2));
  const suitsAll = kinds.every(
    ({ interval }) => interval === null || (multiple >= interval[0] && multiple <= interval[1]),
  );
  return { multiple, suitsAll };
}
