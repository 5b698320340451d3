/** Claims about causal routing, as in sampling, and about entropy: Raposo et al. 2024, sections 3.5, 4.1 and 4.2. */

import type { RoutingMode } from '../../model/config.js';
import type { EvalRow } from '../../results/columns.js';
import { mean } from '../../statistics.js';
import { differenceText, isUnknown, meanOf, modelDifference, settingDifference } from '../differences.js';
import { intervalOf } from '../estimate.js';
import { groupBy } from '../group.js';
import { modelName } from '../settings.js';
import { smoothed } from '../smoothed.js';
import type { BudgetStudy, Curve, DoneRun, Study } from '../study.js';
import { percent, signedPercent, significant, withInterval } from '../words.js';
import { type Claim, curvesOf, type Evidence, modAlike, named, overall, overBudgets } from './claim.js';
import { above, allHold, anyHolds, below, type Judgement } from './judgement.js';

export function samplingClaims(study: Study): Claim[] {
  return [
    predictorAccuracy(study),
    predictorCost(study),
    auxiliaryCost(study),
    thresholdSamples(study),
    cheaperInSampling(study),
    followsEntropy(study),
  ];
}

/** The share of tokens in which the predictor must agree with the router. */
export const GOOD_ACCURACY = 0.97;
/** 'Soon' means in the first quarter of training. */
const SOON = 0.25;
/** 'Little' means that the loss rises by less than this share in sampling. */
const LITTLE = 0.01;

/** The share of training after which a run's predictor, smoothed, first agrees on 97% of the tokens; null if it never does. */
export function accuracyReached(run: DoneRun): number | null {
  const points = smoothed(run, ({ predictor_accuracy }) => predictor_accuracy);
  return points.find(({ y }) => y >= GOOD_ACCURACY)?.share ?? null;
}

const evaluation = ({ evaluations }: DoneRun, mode: RoutingMode): EvalRow | null =>
  evaluations.find(({ routing }) => routing === mode) ?? null;

function predictorAccuracy(study: Study): Claim {
  const text = {
    id: 'predictor-accuracy',
    claim: 'The predictor soon agrees with the router about more than 97% of the tokens.',
    source: '4.2, figure 6',
  };
  const needs = 'Needs a MoD run with a predictor, evaluated.';
  return overBudgets(text, study, needs, ({ mod }) => {
    const runs = (mod?.runs ?? []).flatMap((run) => {
      const final = evaluation(run, 'topk');
      return final?.predictor_accuracy == null
        ? []
        : [{ run, final, accuracy: final.predictor_accuracy, reached: accuracyReached(run) }];
    });
    const [best] = [...runs].sort((a, b) => a.run.loss - b.run.loss);
    if (best === undefined) return null;
    const accuracy = meanOf(runs.map((one) => one.accuracy));
    // A run that never reaches it counts as if it did at the end.
    const reached = meanOf(runs.map((one) => one.reached ?? 1));
    const never = runs.filter((one) => one.reached === null).length;
    const skipping = best.final.always_skip_accuracy;
    const of = runs.length === 1 ? modelName(best.run) : `The mean of ${runs.length} runs`;
    const when =
      never === runs.length
        ? 'never passed 97% in training'
        : `passed 97% after ${withInterval(reached.value, intervalOf(reached), percent)} of training${never === 0 ? '' : `, never in ${never === 1 ? 'one run' : `${never} runs`}`}`;
    return {
      judgement: allHold(above(accuracy, GOOD_ACCURACY), below(reached, SOON)),
      finding: `${of} agrees in ${withInterval(accuracy.value, intervalOf(accuracy), percent)} on held-out text${skipping === null ? '' : ` (always 'skip': ${percent(skipping)})`}; it ${when}.`,
      numbers: [
        ...named('predictor accuracy, held-out', accuracy),
        ...(never === runs.length ? [] : named('share of training until 97%', reached)),
      ],
    };
  });
}

function predictorCost(study: Study): Claim {
  const text = {
    id: 'predictor-cost',
    claim: 'Sampling by the predictor costs little loss against top-k.',
    source: '4.2, figure 6',
  };
  return overBudgets(text, study, 'Needs MoD runs evaluated by their predictor.', ({ mod }) =>
    costOf(mod, 'predictor'),
  );
}

function thresholdSamples(study: Study): Claim {
  const text = {
    id: 'threshold',
    claim: 'The auxiliary loss lets a model sample by the sign of its router weight.',
    source: '3.5',
  };
  const needs = 'Needs MoD runs with routing.aux_loss_weight above 0, evaluated by threshold.';
  return overBudgets(text, study, needs, (budget) => {
    const trained = curvesOf(budget, 'mod').filter(({ setting }) => setting.aux_loss_weight > 0);
    const costs = trained.flatMap((curve) => costOf(curve, 'threshold') ?? []);
    const [first] = costs;
    return first === undefined
      ? null
      : { ...first, judgement: allHold(...costs.map(({ judgement }) => judgement)) };
  });
}

/** The mean relative rise of the loss over a curve's runs from top-k to a causal mode. */
function costOf(curve: Curve | null, mode: RoutingMode): Evidence | null {
  const rises = (curve?.runs ?? []).flatMap((run) => {
    const row = evaluation(run, mode);
    return row?.loss_minus_topk == null ? [] : [row.loss_minus_topk / (row.loss - row.loss_minus_topk)];
  });
  if (curve === null || rises.length === 0) return null;
  const found = meanOf(rises);
  const most = Math.max(...rises);
  return {
    judgement: below(found, LITTLE),
    finding: `${curve.setting.label}: ${withInterval(found.value, intervalOf(found), signedPercent)} ${rises.length === 1 ? 'in one run' : `in the mean of ${rises.length} runs, ${signedPercent(most)} at most`} (little: below 1%).`,
    numbers: [
      ...named(`relative rise of the loss, ${mode}, mean`, found),
      { name: `relative rise of the loss, ${mode}, largest`, value: most, interval: null },
    ],
  };
}

/** The paper's cost of 0.2 to 0.3%, doubled for the noise of runs. */
const AUXILIARY_COST = 0.006;

function auxiliaryCost(study: Study): Claim {
  const text = {
    id: 'auxiliary-cost',
    claim: 'The auxiliary loss costs 0.2 to 0.3% of the loss.',
    source: '3.5',
  };
  const needs = 'Needs MoD runs of one setting with and without routing.aux_loss_weight.';
  return overBudgets(text, study, needs, (budget) => {
    const pair = auxiliaryPair(budget);
    if (pair === null) return null;
    const [withLoss, without] = pair;
    const found = settingDifference(withLoss, without, budget.noise);
    const base = without.optimum.loss;
    if (isUnknown(found)) {
      return {
        judgement: below(found, 0),
        finding: `${withLoss.setting.label}: ${differenceText(found)}.`,
        numbers: [],
      };
    }
    const { value, spread } = found;
    const relative = {
      value: value / base,
      spread: spread && { ...spread, variance: spread.variance / base ** 2 },
    };
    return {
      judgement: below(relative, AUXILIARY_COST),
      finding: `${withLoss.setting.label}: ${withInterval(relative.value, intervalOf(relative), signedPercent)} (holds below 0.6%).`,
      numbers: named('relative rise of the loss by the auxiliary loss', relative),
    };
  });
}

function auxiliaryPair(budget: BudgetStudy): [Curve, Curve] | null {
  const rest = ({ setting: { capacity, frequency, gate, others } }: Curve) =>
    JSON.stringify([capacity, frequency, gate, others]);
  const curves = curvesOf(budget, 'mod');
  for (const curve of curves.filter(({ setting }) => setting.aux_loss_weight > 0)) {
    const without = curves.find((other) => {
      return other.setting.aux_loss_weight === 0 && rest(other) === rest(curve);
    });
    if (without !== undefined) return [curve, without];
  }
  return null;
}

/** A MoD run evaluated as in sampling (a causal routing mode). */
export interface SampledRun {
  run: DoneRun;
  evaluation: EvalRow;
}

/** Every learned MoD run of a budget in its causal modes, of the curves of `modAlike`. */
export function sampledRuns(budget: BudgetStudy): SampledRun[] {
  return modAlike(budget).flatMap(({ runs }) =>
    runs.flatMap((run) =>
      run.evaluations.filter(({ routing }) => routing !== 'topk').map((row) => ({ run, evaluation: row })),
    ),
  );
}

/** A size of MoD models evaluated as in sampling, its seeds averaged. */
export interface SampledSize {
  /** The first of its seeds. */
  run: DoneRun;
  mode: RoutingMode;
  loss: number;
  flopsPerPass: number;
  /** The runs of all seeds. */
  all: readonly DoneRun[];
}

/** `sampledRuns` averaged over the seeds of each size, since the best single run would be an outlier. */
export function sampledSizes(budget: BudgetStudy): SampledSize[] {
  const modelOf = ({ run: { setting, row }, evaluation: { routing } }: SampledRun) =>
    [setting.key, row.params_total, row.flops_per_pass, routing].join();
  return [...groupBy(sampledRuns(budget), modelOf).values()].map((seeds) => {
    const [{ run, evaluation }] = seeds as [SampledRun];
    return {
      run,
      mode: evaluation.routing,
      loss: mean(seeds.map((one) => one.evaluation.loss)),
      flopsPerPass: mean(seeds.map((one) => one.evaluation.flops_per_pass)),
      all: seeds.map((one) => one.run),
    };
  });
}

function cheaperInSampling(study: Study): Claim {
  const text = {
    id: 'cheaper-in-sampling',
    claim: 'Evaluated as in sampling, MoD is better than the baseline at fewer FLOPs per pass.',
    source: '4.2, figure 6',
  };
  const needs = 'Needs dense runs, and MoD runs evaluated in a causal mode.';
  return overBudgets(text, study, needs, (budget) => {
    const sampled = sampledSizes(budget);
    if (budget.baseline === null || sampled.length === 0) return null;
    const dense = budget.baseline.best;
    const cheaper = sampled
      .filter(({ flopsPerPass }) => flopsPerPass < dense.row.flops_per_pass)
      .map((model) => ({ model, difference: modelDifference(model, dense, budget.noise) }))
      .sort((a, b) => a.model.loss - b.model.loss);
    const [first] = cheaper;
    if (first === undefined) {
      return {
        judgement: { side: 'fails', p: 0, doubt: null },
        finding: 'No MoD run uses fewer FLOPs per pass than the best baseline.',
        numbers: [],
      };
    }
    const { model: best, difference: found } = first;
    const share = best.flopsPerPass / dense.row.flops_per_pass;
    return {
      judgement: withoutDoubt(budget, anyHolds(...cheaper.map(({ difference }) => below(difference, 0)))),
      finding: `${modelName(best.run)} by ${best.mode}: ${differenceText(found)} at ${significant(share)} of the best baseline's FLOPs per pass${cheaper.length === 1 ? '' : `, chosen among ${cheaper.length} models`}.`,
      numbers: [
        ...named('loss, sampling MoD minus baseline', found),
        { name: 'FLOPs per pass, sampling MoD over baseline', value: share, interval: null },
      ],
    };
  });
}

/** A comparison with the best dense model needs to know that none is better: no verdict from an unknown dense optimum. */
export function withoutDoubt({ baseline }: BudgetStudy, judgement: Judgement): Judgement {
  const doubt = baseline?.doubt ?? null;
  return doubt === null || judgement.side === 'undecided' ? judgement : { side: 'undecided', p: 1, doubt };
}

function followsEntropy({ done }: Study): Claim {
  const text = {
    id: 'entropy',
    claim: 'Tokens go through more blocks where the prediction has a higher entropy.',
    source: '4.2, figure 5',
  };
  const found = done.flatMap(({ row, setting, loss, analysis }) =>
    (analysis?.correlations ?? [])
      .filter((one) => one.with === 'entropy' && one.coefficient === 'spearman' && one.r !== null)
      .map((one) => ({
        name: modelName({ setting, row }),
        run_id: row.run_id,
        loss,
        r: one.r as number,
        interval: one.interval,
        n: one.n,
      })),
  );
  if (found.length === 0) return overall(text, 'Needs mod analyze on a MoD run.', null);
  const [first] = [...found].sort((a, b) => a.loss - b.loss) as [(typeof found)[number]];
  const others =
    found.length === 1 ? '' : `; above 0 in ${found.filter(({ r }) => r > 0).length} of ${found.length} runs`;
  const judged = found.map(({ r, interval }): Judgement => {
    if (interval === null) return { side: 'undecided', p: 1, doubt: null };
    const error = (interval[1] - interval[0]) / 2 / Z95;
    return above({ value: r, spread: { variance: error ** 2, freedom: Number.POSITIVE_INFINITY } }, 0);
  });
  return overall(text, '', {
    judgement: allHold(...judged),
    finding: `${first.name}: Spearman r = ${withInterval(first.r, first.interval, significant)} over ${first.n} tokens${others}.`,
    numbers: found.map(({ run_id, r, interval }) => ({
      name: `Spearman r with entropy, ${run_id}`,
      value: r,
      interval,
    })),
  });
}

/** Two-sided 95% of a normal distribution: the intervals are over thousands of tokens. */
const Z95 = 1.96;
