/** Claims about step time, wall-clock time and memory: Raposo et al. 2024, sections 4.1 and 5. */
import { routedBlocks } from '../../model/config.js';
import { hasPredictor } from '../../model/routers.js';
import { mean, median } from '../../statistics.js';
import { groupBy } from '../group.js';
import { sameMachine, stepTimes } from '../step-time.js';
import { type BudgetStudy, type Curve, type DoneRun, meansOf, type SizeMean, type Study } from '../study.js';
import { percent, significant } from '../words.js';
import {
  below,
  type Claim,
  differenceText,
  type Evidence,
  modelDifference,
  named,
  overall,
  overBudgets,
} from './claim.js';

export function speedClaims(study: Study): Claim[] {
  return [fasterAtEqualLoss(study), betterAtEqualTime(study), stepFollowsFlops(study), memory(study)];
}

/** A learned MoD model and its speed-up over the best dense one. */
export interface FastRun {
  run: SizeMean;
  baseline: SizeMean;
  /** Step time of the baseline over that of the model. */
  speedup: number;
}

/**
 * The fastest MoD model, trained like the baseline, whose loss is no higher than that of the best baseline, seeds averaged;
 * null if none is as good, or none has a comparable step time.
 */
export function fastestAsGood({ baseline, alike: curves }: BudgetStudy): FastRun | null {
  if (baseline === null) return null;
  return timed(curves, baseline.best)
    .filter(({ run }) => run.loss <= baseline.best.loss)
    .map(({ run, ms, denseMs }) => ({ run, baseline: baseline.best, speedup: denseMs / ms }))
    .reduce<FastRun | null>((fastest, one) => (one.speedup > (fastest?.speedup ?? 0) ? one : fastest), null);
}

/** A MoD model with its step time and that of the best baseline on one machine, in milliseconds. */
interface Timed {
  run: SizeMean;
  ms: number;
  denseMs: number;
}

function timed(curves: readonly Curve[], dense: SizeMean): Timed[] {
  return curves
    .filter(({ setting }) => setting.variant === 'mod')
    .flatMap(({ runs }) => meansOf(runs))
    .flatMap((run) => {
      const times = stepTimes(run.all, dense.all);
      return times === null ? [] : [{ run, ms: times[0], denseMs: times[1] }];
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
    const models = timed(curves, dense).map(({ run }) => run);
    if (models.length === 0) return null;
    const fast = fastestAsGood(budget);
    if (fast === null) {
      const nearest = models.reduce((a, b) => (b.loss < a.loss ? b : a));
      const found = modelDifference(nearest, dense, noise);
      return {
        verdict: below(found.interval, 0) === 'fails' ? 'fails' : 'undecided',
        finding: `No MoD model is as good as the best baseline; the nearest is ${differenceText(found)} away.`,
        numbers: [named('loss, nearest MoD minus best baseline', found)],
      };
    }
    const { run, speedup } = fast;
    const found = modelDifference(run, dense, noise);
    return {
      verdict: speedup > 1 ? below(found.interval, AS_GOOD * dense.loss) : 'fails',
      finding: `${run.row.run_id} steps ${significant(speedup)} times as fast as ${dense.row.run_id}, its loss ${differenceText(found)} (as good: not higher by 1%, with 95% confidence).`,
      numbers: [
        { name: 'step time, baseline over MoD as good', value: speedup, interval: null },
        named('loss, that MoD minus best baseline', found),
      ],
    };
  });
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
  return overBudgets(text, study, needs, ({ baseline, alike: curves, noise }) => {
    if (baseline === null) return null;
    const dense = baseline.best;
    const models = timed(curves, dense).map(({ run, ms, denseMs }) => ({
      run,
      share: (run.row.steps * ms) / (dense.row.steps * denseMs),
    }));
    if (models.length === 0) return null;
    const [best] = models.filter(({ share }) => share <= AS_LONG).sort((a, b) => a.run.loss - b.run.loss);
    if (best === undefined) {
      return {
        verdict: 'fails',
        finding: 'Every MoD model took longer than the best baseline.',
        numbers: [],
      };
    }
    const { run, share } = best;
    const found = modelDifference(run, dense, noise);
    return {
      verdict: below(found.interval, 0),
      finding: `${run.row.run_id} in ${percent(share)} of the time that steps of the best baseline took: ${differenceText(found)}.`,
      numbers: [
        named('loss, MoD minus baseline in no more time', found),
        { name: 'training time, MoD over baseline', value: share, interval: null },
      ],
    };
  });
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
  const pairs = pairsWithDense(study.done)
    .filter(({ routed, dense }) => routed.row.step_ms !== null && dense.row.step_ms !== null)
    .filter(({ routed }) => routed.row.flops_per_pass_vs_dense < 1);
  const saved = pairs.map(
    ({ routed, dense }) =>
      (1 - stepMs(routed) / stepMs(dense)) / (1 - routed.row.flops_per_pass / dense.row.flops_per_pass),
  );
  if (saved.length === 0) {
    return overall(text, 'Needs MoD and dense runs of one shape, timed on one kind of device.', null);
  }
  const middle = median(saved);
  return overall(text, '', {
    verdict: middle >= MOST_SAVED ? 'holds' : middle < LITTLE_SAVED ? 'fails' : 'undecided',
    finding: `Of the step time that fewer FLOPs would save, ${percent(middle)} is saved: the median of ${saved.length} pairs of one shape, from ${percent(Math.min(...saved))} to ${percent(Math.max(...saved))}${mixedVersionsNote(pairs)}.`,
    numbers: [{ name: 'share of the promised time saved, median', value: middle, interval: null }],
  });
}

interface Pair {
  routed: DoneRun;
  dense: DoneRun;
}

/** A note on the pairs that compare two versions of the program, which may differ in speed. */
function mixedVersionsNote(pairs: readonly Pair[]): string {
  const mixed = pairs.filter(({ routed, dense }) => routed.row.git_commit !== dense.row.git_commit).length;
  return mixed === 0 ? '' : `; ${mixed} of the pairs were trained by two versions of the program`;
}

/**
 * Every learned MoD run with the dense run of its shape, budget, seed and machine; of several, the one with the same version
 * of the program and the same training settings.
 */
function pairsWithDense(runs: readonly DoneRun[]): Pair[] {
  const shape = ({ row }: DoneRun) =>
    [row.flop_budget, row.d_model, row.n_layers, row.n_heads, row.d_ff, row.seed].join();
  const dense = groupBy(
    runs.filter(({ row }) => row.variant === 'baseline'),
    shape,
  );
  return runs
    .filter(({ row }) => row.variant === 'mod')
    .flatMap((routed) => {
      const likeness = ({ row, setting }: DoneRun) =>
        2 * Number(row.git_commit === routed.row.git_commit) +
        Number(setting.others === routed.setting.others);
      const [partner] = (dense.get(shape(routed)) ?? [])
        .filter((one) => sameMachine(one, routed))
        .sort((a, b) => likeness(b) - likeness(a));
      return partner === undefined ? [] : [{ routed, dense: partner }];
    });
}

function memory(study: Study): Claim {
  const text = {
    id: 'memory',
    claim: 'MoD transformers need less memory in training and a smaller key/value cache in sampling.',
    source: '5',
  };
  const pairs = pairsWithDense(study.done);
  const peaks = pairs
    .filter(
      ({ routed, dense }) => routed.row.peak_memory_bytes !== null && dense.row.peak_memory_bytes !== null,
    )
    .map(
      ({ routed, dense }) =>
        (routed.row.peak_memory_bytes as number) / (dense.row.peak_memory_bytes as number),
    );
  const caches = study.done.flatMap((run) => cacheShare(run) ?? []);
  return overall(
    text,
    'Needs MoD and dense runs of one shape with their peak memory, and evaluation as in sampling.',
    memoryEvidence(peaks, caches),
  );
}

function memoryEvidence(peaks: number[], caches: number[]): Evidence | null {
  if (peaks.length === 0 || caches.length === 0) return null;
  const [peak, cache] = [median(peaks), mean(caches)];
  return {
    verdict: peak < 1 && cache < 1 ? 'holds' : 'fails',
    finding: `Peak memory in training ${significant(peak)} of the dense model's of the same shape (median of ${peaks.length} pairs); cache in sampling ${significant(cache)} of the dense one's, from the share of selected tokens.`,
    numbers: [
      { name: 'peak memory, MoD over dense', value: peak, interval: null },
      { name: 'cache, MoD over dense', value: cache, interval: null },
    ],
  };
}

/** A routed block caches only tokens that went through it; null for a run that was not evaluated as in sampling. */
function cacheShare({ spec: { model }, evaluations }: DoneRun): number | null {
  const { routing, n_layers } = model;
  if (routing === null || !hasPredictor(routing)) return null;
  const causal = evaluations.find(({ routing: mode }) => mode === 'predictor');
  if (causal?.participation == null) return null;
  const routed = routedBlocks(model).length;
  return (n_layers - routed + routed * causal.participation) / n_layers;
}
