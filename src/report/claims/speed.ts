/** Claims about step time and wall-clock time: Raposo et al. 2024, section 4.1. */
import { mean, median } from '../../statistics.js';
import { differenceText, isUnknown, modelDifference } from '../differences.js';
import { equalTimeDifference } from '../equal-time.js';
import { intervalOf } from '../estimate.js';
import { modelName } from '../settings.js';
import { contended, type StepTimes, stepTimes } from '../step-time.js';
import { type BudgetStudy, type Curve, type DoneRun, meansOf, type SizeMean, type Study } from '../study.js';
import { percent, significant, withInterval } from '../words.js';
import { type Claim, type Evidence, named, overall, overBudgets } from './claim.js';
import { allHold, anyHolds, below, type Judgement, LEVEL } from './judgement.js';
import { pairsWithDense, shapesOf } from './pairs.js';
import { withoutDoubt } from './sampling.js';

export function speedClaims(study: Study): Claim[] {
  return [fasterAtEqualLoss(study), betterAtEqualTime(study), stepFollowsFlops(study)];
}

/** A learned MoD model and its speed-up over the best dense one. */
export interface FastRun {
  run: SizeMean;
  baseline: SizeMean;
  /** Step time of the baseline over that of the model. */
  speedup: number;
  times: StepTimes;
}

/** Step time of the second model over that of the first. */
const speedupOf = ({ times: [ms, denseMs] }: StepTimes) => denseMs / ms;

/**
 * The fastest MoD model, trained like the baseline, whose loss is no higher than that of the best baseline, seeds averaged;
 * null if none is as good, or none has a comparable step time.
 */
export function fastestAsGood({ baseline, alike: curves }: BudgetStudy): FastRun | null {
  if (baseline === null) return null;
  return timed(curves, baseline.best)
    .filter(({ run }) => run.loss <= baseline.best.loss)
    .map(({ run, times }) => ({ run, baseline: baseline.best, speedup: speedupOf(times), times }))
    .reduce<FastRun | null>((fastest, one) => (one.speedup > (fastest?.speedup ?? 0) ? one : fastest), null);
}

/** A MoD model with its step time and that of the best baseline on one machine. */
interface Timed {
  run: SizeMean;
  times: StepTimes;
}

function timed(curves: readonly Curve[], dense: SizeMean): Timed[] {
  return curves
    .filter(({ setting }) => setting.variant === 'mod')
    .flatMap(({ runs }) => meansOf(runs))
    .flatMap((run) => {
      const times = stepTimes(run.all, dense.all);
      return times === null ? [] : [{ run, times }];
    });
}

/** A loss that is higher by less than this share counts as equally good. */
const AS_GOOD = 0.01;

function fasterAtEqualLoss(study: Study): Claim {
  const text = {
    id: 'faster-at-equal-loss',
    claim: 'There are MoD transformers as good as the optimal baseline that are faster to step.',
    source: '4.1, figure 3',
  };
  const needs = 'Needs step times of dense and MoD runs on one kind of device.';
  return overBudgets(text, study, needs, (budget) => {
    const { baseline, alike: curves, noise } = budget;
    if (baseline === null) return null;
    const dense = baseline.best;
    const models = timed(curves, dense).map((one) => ({
      ...one,
      difference: modelDifference(one.run, dense, noise),
    }));
    if (models.length === 0) return null;
    const judgement = withoutDoubt(
      budget,
      anyHolds(
        // A model that is worse can only be found to be worse; one that is not must not be worse by 1%.
        ...models.map(({ run, difference, times }) =>
          run.loss > dense.loss
            ? below(difference, 0)
            : allHold(below(difference, AS_GOOD * dense.loss), below(times.ratio, 0)),
        ),
      ),
    );
    const fast = fastestAsGood(budget);
    if (fast === null) {
      const nearest = models.reduce((a, b) => (b.run.loss < a.run.loss ? b : a));
      return {
        judgement,
        finding: `No MoD model has a loss as low as the best baseline; the nearest is ${differenceText(nearest.difference)} away.`,
        numbers: named('loss, nearest MoD minus best baseline', nearest.difference),
      };
    }
    const { run, speedup, times } = fast;
    const found = modelDifference(run, dense, noise);
    const range = speedupInterval(times);
    return {
      judgement,
      finding: `${modelName(run)} steps ${withInterval(speedup, range, significant)} times as fast as ${modelName(dense)}, its loss ${differenceText(found)} (as good: not higher by 1%, with 95% confidence${models.length === 1 ? '' : `, for the choice among ${models.length} models`}).`,
      numbers: [
        { name: 'step time, baseline over MoD as good', value: speedup, interval: range },
        ...named('loss, that MoD minus best baseline', found),
      ],
    };
  });
}

function speedupInterval({ ratio }: StepTimes) {
  const range = isUnknown(ratio) ? null : intervalOf(ratio);
  return range && ([Math.exp(-range[1]), Math.exp(-range[0])] as const);
}

/** Step times of equal runs differ by up to this ratio. */
const AS_LONG = 1.02;

function betterAtEqualTime(study: Study): Claim {
  const text = {
    id: 'better-at-equal-time',
    claim: 'Given as much wall-clock time as the optimal baseline, a MoD transformer reaches a lower loss.',
    source: '4.1',
  };
  const needs = 'Needs step times of dense and MoD runs on one kind of device.';
  return overBudgets(text, study, needs, (budget) => {
    const { baseline } = budget;
    if (baseline === null) return null;
    return bySlope(study, budget) ?? byModels(budget, baseline);
  });
}

/** The optimal MoD, moved along its own losses over budgets to the budget that takes the baseline's time. */
function bySlope(study: Study, budget: BudgetStudy): Evidence | null {
  const found = equalTimeDifference(study, budget);
  if (found === null) return null;
  const { difference, share, mod } = found;
  return {
    judgement: below(difference, 0),
    finding: `The optimal ${mod.setting.label} takes ${percent(share)} of the baseline's time for these FLOPs; in as much time, by the slope of its loss over budgets: ${differenceText(difference)}.`,
    numbers: [
      ...named('loss, MoD minus baseline in the same time', difference),
      { name: 'training time, MoD over baseline', value: share, interval: null },
    ],
  };
}

/** The models of this budget that take no more time than the best baseline. */
function byModels(budget: BudgetStudy, { best: dense }: Curve): Evidence | null {
  const models = timed(budget.alike, dense).map(({ run, times }) => ({
    run,
    share: run.row.steps / dense.row.steps / speedupOf(times),
    times,
    difference: modelDifference(run, dense, budget.noise),
  }));
  if (models.length === 0) return null;
  const quick = models.filter(({ share }) => share <= AS_LONG).sort((a, b) => a.run.loss - b.run.loss);
  const [best] = quick;
  if (best === undefined) {
    return {
      judgement: anyHolds(...models.map(({ run, times }) => isQuicker(run, dense, times))),
      finding: 'Every MoD model took longer than the best baseline.',
      numbers: [],
    };
  }
  const { run, share, difference } = best;
  const known = quick.map(({ difference: one, times }) =>
    isUnknown(times.ratio) ? below(times.ratio, 0) : below(one, 0),
  );
  return {
    judgement: withoutDoubt(budget, anyHolds(...known)),
    finding: `${modelName(run)} in ${percent(share)} of the time that steps of the best baseline took: ${differenceText(difference)}.`,
    numbers: [
      ...named('loss, MoD minus baseline in no more time', difference),
      { name: 'training time, MoD over baseline', value: share, interval: null },
    ],
  };
}

/** Whether all steps of a model take no more time than those of another. */
function isQuicker(run: SizeMean, dense: SizeMean, { ratio }: StepTimes): Judgement {
  if (isUnknown(ratio)) return below(ratio, 0);
  const value = ratio.value + Math.log(run.row.steps / dense.row.steps);
  return below({ ...ratio, value }, Math.log(AS_LONG));
}

const stepMs = ({ row }: DoneRun) => row.step_ms as number;

/** Shares of the saved FLOPs that are saved as time: at the first the claim holds, below the second it fails. */
const [MOST_SAVED, LITTLE_SAVED] = [0.75, 0.5];

function stepFollowsFlops(study: Study): Claim {
  const text = {
    id: 'step-time',
    claim: 'Step time falls as FLOPs per pass do.',
    source: '4.1, figure 3',
  };
  const all = pairsWithDense(study.done)
    .filter(({ routed, dense }) => routed.row.step_ms !== null && dense.row.step_ms !== null)
    .filter(({ routed }) => routed.row.flops_per_pass_vs_dense < 1);
  if (all.length === 0) {
    return overall(text, 'Needs MoD and dense runs of one shape, timed on one kind of device.', null);
  }
  const pairs = all.filter(({ routed, dense }) => areComparable(routed, dense));
  const saved = shapesOf(pairs.length > 0 ? pairs : all).map((ofShape) =>
    mean(
      ofShape.map(
        ({ routed, dense }) =>
          (1 - stepMs(routed) / stepMs(dense)) / (1 - routed.row.flops_per_pass / dense.row.flops_per_pass),
      ),
    ),
  );
  const middle = median(saved);
  const range = pairs.length === 0 ? null : medianInterval(saved);
  const slow = contended(pairs.flatMap(({ routed, dense }) => [routed, dense]));
  const notes = [
    ...(all.length > pairs.length && pairs.length > 0
      ? [`${all.length - pairs.length} pairs of two versions or without quartiles are left out`]
      : []),
    ...(slow.length > 0
      ? [`in ${new Set(slow).size} runs the quartiles of the step time differ by more than 10%`]
      : []),
  ];
  return overall(text, '', {
    judgement: savedEnough(saved, range, pairs.length === 0),
    finding: `Of the step time that fewer FLOPs would save, ${withInterval(middle, range, percent)} is saved: the median of ${saved.length === 1 ? 'one shape' : `${saved.length} shapes`}, from ${percent(Math.min(...saved))} to ${percent(Math.max(...saved))}${notes.length === 0 ? '' : `; ${notes.join('; ')}`}.`,
    numbers: [{ name: 'share of the promised time saved, median', value: middle, interval: range }],
  });
}

/** Timed by one version of the program, with the spread over steps. */
function areComparable({ row: a }: DoneRun, { row: b }: DoneRun): boolean {
  return (
    a.git_commit === b.git_commit && [a, b].every((row) => row.step_ms_q1 != null && row.step_ms_q3 != null)
  );
}

/** The median has a 95% interval between order statistics, whatever the distribution; null for fewer than six values. */
export function medianInterval(values: readonly number[]): readonly [number, number] | null {
  const sorted = [...values].sort((a, b) => a - b);
  const n = sorted.length;
  let tail = 0.5 ** n;
  let below = tail;
  if (2 * below > LEVEL) return null;
  let k = 0;
  for (;;) {
    tail *= (n - k) / (k + 1);
    if (2 * (below + tail) > LEVEL) break;
    below += tail;
    k += 1;
  }
  return [sorted[k] as number, sorted[n - 1 - k] as number];
}

/** Holds if the interval of the median is above the first bound, fails if it is below the second. */
function savedEnough(
  saved: readonly number[],
  range: readonly [number, number] | null,
  unmeasured: boolean,
): Judgement {
  if (unmeasured) {
    return {
      side: 'undecided',
      p: 1,
      doubt: {
        reason: 'no pair was timed by one version of the program with the spread over its steps',
        remedy: 'the pairs trained again by this version',
      },
    };
  }
  if (range === null) {
    return {
      side: 'undecided',
      p: 1,
      doubt: {
        reason: `${saved.length === 1 ? 'one shape gives' : `${saved.length} shapes give`} no interval`,
        remedy: 'six shapes or more of both kinds',
      },
    };
  }
  if (range[0] >= MOST_SAVED) return { side: 'holds', p: LEVEL, doubt: null };
  if (range[1] < LITTLE_SAVED) return { side: 'fails', p: LEVEL, doubt: null };
  return { side: 'undecided', p: 1, doubt: null };
}
