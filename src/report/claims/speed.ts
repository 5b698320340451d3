/** Claims about step time, wall-clock time and memory: Raposo et al. 2024, sections 4.1 and 5. */
import { hasPredictor, isRouted } from '../../model/config.js';
import { mean, median } from '../../statistics.js';
import { groupBy } from '../group.js';
import { type BudgetStudy, type DoneRun, meansOf, type SizeMean, type Study } from '../study.js';
import { percent, signedLoss, significant, withInterval } from '../words.js';
import {
  below,
  type Claim,
  type Difference,
  type Evidence,
  named,
  overall,
  overBudgets,
  runInterval,
} from './claim.js';

export function speedClaims(study: Study): Claim[] {
  return [fasterAtEqualLoss(study), betterAtEqualTime(study), stepFollowsFlops(study), memory(study)];
}

/** What a run's step time depends on beside its model: device, backend, precision, batch and length of sequence. */
export function machineOf({ row }: DoneRun): string {
  return [row.device, row.backend, row.precision, row.batch_sequences, row.sequence_length].join(' ');
}

/** Whether the step times of two runs can be compared. */
export const sameMachine = (a: DoneRun, b: DoneRun): boolean => machineOf(a) === machineOf(b);

/** A learned MoD run and how many times as fast as the optimal baseline it steps. */
export interface FastRun {
  run: DoneRun;
  baseline: DoneRun;
  /** Step time of the baseline over that of the run. */
  speedup: number;
}

/**
 * Of the MoD models, trained like the baseline, whose loss is no higher than that of the best baseline, seeds averaged, the
 * one that steps fastest; null where none is as good, or none has a time that can be compared.
 */
export function fastestAsGood({ baseline, alike: curves }: BudgetStudy): FastRun | null {
  if (baseline === null) return null;
  const best = baseline.best;
  return comparable(curves, best)
    .filter(({ loss }) => loss <= best.loss)
    .map((run) => ({ run, baseline: best, speedup: stepMs(best) / stepMs(run) }))
    .reduce<FastRun | null>((fastest, one) => (one.speedup > (fastest?.speedup ?? 0) ? one : fastest), null);
}

function comparable(curves: BudgetStudy['curves'], to: DoneRun): SizeMean[] {
  if (to.row.step_ms === null) return [];
  return curves
    .filter(({ setting }) => setting.variant === 'mod')
    .flatMap(({ runs }) => meansOf(runs))
    .filter((run) => run.row.step_ms !== null && sameMachine(run, to));
}

const stepMs = ({ row }: DoneRun) => row.step_ms as number;
/** Steps times their median: wall_s also holds evaluation and waiting. */
const trainingSeconds = (run: DoneRun) => (run.row.steps * stepMs(run)) / 1000;

/** The loss of one model less that of the best baseline, seeds averaged. */
function lossAgainst(dense: SizeMean, { loss, seeds }: SizeMean, noise: number | null): Difference {
  const value = loss - dense.loss;
  return { value, interval: runInterval(value, noise, seeds, dense.seeds) };
}

function fasterAtEqualLoss(study: Study): Claim {
  const text = {
    id: 'faster-at-equal-loss',
    claim: 'There are MoD transformers as good as the optimal baseline that are faster to step.',
    source: '4.1, figure 3',
  };
  const needs = 'Needs step times of dense and MoD runs on one kind of device.';
  return overBudgets(text, study, needs, (budget) => {
    const { baseline, alike: curves, noise } = budget;
    if (baseline === null || comparable(curves, baseline.best).length === 0) return null;
    const fast = fastestAsGood(budget);
    if (fast === null) {
      const nearest = comparable(curves, baseline.best).reduce((a, b) => (b.loss < a.loss ? b : a));
      const found = lossAgainst(baseline.best, nearest, noise);
      return {
        verdict: below(found.interval, 0) === 'fails' ? 'fails' : 'undecided',
        finding: `No MoD run is as good as the best baseline; the nearest is ${withInterval(found.value, found.interval, signedLoss)} nats away.`,
        numbers: [named('loss, nearest MoD less best baseline', found)],
      };
    }
    const { run, speedup } = fast;
    return {
      verdict: speedup > 1 ? 'holds' : 'fails',
      finding: `${run.row.run_id} steps ${significant(speedup)} times as fast as ${fast.baseline.row.run_id}, its loss ${signedLoss(run.loss - fast.baseline.loss)} nats.`,
      numbers: [{ name: 'step time, baseline over MoD as good', value: speedup, interval: null }],
    };
  });
}

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
    const inTime = comparable(curves, dense).filter((run) => trainingSeconds(run) <= trainingSeconds(dense));
    if (comparable(curves, dense).length === 0) return null;
    const [best] = inTime.sort((a, b) => a.loss - b.loss);
    if (best === undefined) {
      return { verdict: 'fails', finding: 'Every MoD run took longer than the best baseline.', numbers: [] };
    }
    const found = lossAgainst(dense, best, noise);
    const share = trainingSeconds(best) / trainingSeconds(dense);
    return {
      verdict: below(found.interval, 0),
      finding: `${best.row.run_id} in ${percent(share)} of the best baseline's training time: ${withInterval(found.value, found.interval, signedLoss)} nats.`,
      numbers: [
        named('loss, MoD less baseline in no more time', found),
        { name: 'training time, MoD over baseline', value: share, interval: null },
      ],
    };
  });
}

/** Shares of the promised saving between which the data speaks neither for nor against. */
const [MOST_SAVED, LITTLE_SAVED] = [0.75, 0.5];

function stepFollowsFlops(study: Study): Claim {
  const text = {
    id: 'step-time',
    claim: 'Step time falls as FLOPs per pass do.',
    source: '4.1, figure 3',
  };
  const saved = pairsWithDense(study.done)
    .filter(({ routed, dense }) => routed.row.step_ms !== null && dense.row.step_ms !== null)
    .filter(({ routed }) => routed.row.flops_per_pass_vs_dense < 1)
    .map(
      ({ routed, dense }) =>
        (1 - stepMs(routed) / stepMs(dense)) / (1 - routed.row.flops_per_pass / dense.row.flops_per_pass),
    );
  if (saved.length === 0) {
    return overall(text, 'Needs MoD and dense runs of one shape, timed on one kind of device.', null);
  }
  const middle = median(saved);
  return overall(text, '', {
    verdict: middle >= MOST_SAVED ? 'holds' : middle < LITTLE_SAVED ? 'fails' : 'undecided',
    finding: `Of the time that fewer FLOPs promise, ${percent(middle)} is saved: the median of ${saved.length} pairs of one shape, from ${percent(Math.min(...saved))} to ${percent(Math.max(...saved))}.`,
    numbers: [{ name: 'share of the promised time saved, median', value: middle, interval: null }],
  });
}

/** Every learned MoD run with the dense run of its shape, budget and machine; where there are seeds, of its seed. */
function pairsWithDense(runs: readonly DoneRun[]): { routed: DoneRun; dense: DoneRun }[] {
  const shape = ({ row }: DoneRun) =>
    [row.flop_budget, row.d_model, row.n_layers, row.n_heads, row.d_ff, row.seed].join();
  const dense = groupBy(
    runs.filter(({ row }) => row.variant === 'baseline'),
    shape,
  );
  return runs
    .filter(({ row }) => row.variant === 'mod')
    .flatMap((routed) => {
      const partner = dense.get(shape(routed))?.find((one) => sameMachine(one, routed));
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
    finding: `Peak memory in training ${significant(peak)} of the dense model's of the same shape (median of ${peaks.length} pairs); cache in sampling ${significant(cache)} of the dense one's, from the share of tokens that took part.`,
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
  const routed = Array.from({ length: n_layers }, (_, i) => isRouted(model, i)).filter(Boolean).length;
  return (n_layers - routed + routed * causal.participation) / n_layers;
}
