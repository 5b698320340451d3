/** Claims of the paper: combines the evidence of several budgets into one verdict. */
import { mean } from '../../statistics.js';
import { noiseInterval, runInterval } from '../noise.js';
import { type Interval, interval } from '../parabola.js';
import type { BudgetStudy, Curve, DoneRun, SizeMean, Study } from '../study.js';
import { meanLoss, sizesOf } from '../study.js';
import { budgetName, signedLoss, withInterval } from '../words.js';

export type Verdict =
  | 'holds'
  | 'fails'
  /** The data tests the claim, but its interval includes both outcomes or is unknown. */
  | 'undecided'
  | 'not tested';

export interface Claim {
  id: string;
  /** The claim, in a sentence. */
  claim: string;
  /** The place in the paper: `4.1`, `figure 3`. */
  source: string;
  verdict: Verdict;
  /** What the data shows, with numbers, one line per budget; for a claim that is not tested, what is missing. */
  finding: string;
  numbers: ClaimNumber[];
}

/** A number behind a verdict, and its 95% interval if known. */
export interface ClaimNumber {
  /** Null for numbers that do not belong to one budget. */
  flop_budget: number | null;
  name: string;
  value: number;
  interval: Interval | null;
}

/** The evidence on a claim from one part of the data, usually a budget. */
export interface Evidence {
  verdict: Exclude<Verdict, 'not tested'>;
  finding: string;
  numbers: Omit<ClaimNumber, 'flop_budget'>[];
}

type ClaimText = Pick<Claim, 'id' | 'claim' | 'source'>;

/**
 * Judges a claim at every budget.
 *
 * @param needs what is missing if no budget tests the claim
 * @param judge returns null if the budget does not test the claim
 */
export function overBudgets(
  text: ClaimText,
  { budgets }: Study,
  needs: string,
  judge: (budget: BudgetStudy) => Evidence | null,
): Claim {
  const judged = budgets.flatMap((study) => {
    const evidence = judge(study);
    return evidence === null ? [] : [{ ...evidence, budget: study.budget }];
  });
  const several = budgets.length > 1;
  return {
    ...text,
    verdict: combined(judged.map(({ verdict }) => verdict)),
    finding:
      judged.length === 0
        ? needs
        : judged
            .map(({ finding, budget, verdict }) =>
              several ? `At ${budgetName(budget)} (${verdict}): ${finding}` : finding,
            )
            .join('\n'),
    numbers: judged.flatMap(({ numbers, budget }) => numbers.map((one) => ({ ...one, flop_budget: budget }))),
  };
}

/** A claim judged on all data at once. */
export function overall(text: ClaimText, needs: string, evidence: Evidence | null): Claim {
  if (evidence === null) return { ...text, verdict: 'not tested', finding: needs, numbers: [] };
  const { verdict, finding, numbers } = evidence;
  return { ...text, verdict, finding, numbers: numbers.map((one) => ({ ...one, flop_budget: null })) };
}

/** The verdict of the budgets that decide, if they agree; undecided budgets contradict none. */
function combined(verdicts: Evidence['verdict'][]): Verdict {
  if (verdicts.length === 0) return 'not tested';
  const [first, ...others] = new Set(verdicts.filter((verdict) => verdict !== 'undecided'));
  return first === undefined || others.length > 0 ? 'undecided' : first;
}

/** A difference, its 95% interval, and the basis of the interval. */
export interface Difference {
  value: number;
  interval: Interval | null;
  /** Set if an optimum has no fit: the best runs are compared, or this number of sizes that both curves have. */
  basis?: 'best runs' | number;
}

/**
 * Loss of the optimum of `a` minus that of `b`. The interval is from the bootstrap if both curves have one, otherwise from
 * the runs of the best sizes and the budget's noise, otherwise unknown.
 */
export function lossDifference(a: Curve, b: Curve, noise: number | null): Difference {
  const value = a.optimum.loss - b.optimum.loss;
  const differences = pairwise(lossSamples(a), lossSamples(b), (ofA, ofB) => ofA - ofB);
  if (differences.length > 0) return { value, interval: interval(differences) };
  const seeds = [a.optimum.seeds ?? 1, b.optimum.seeds ?? 1] as const;
  const ofRuns = a.optimum.from === 'run' || b.optimum.from === 'run';
  return { value, interval: runInterval(value, noise, ...seeds), ...(ofRuns ? { basis: 'best runs' } : {}) };
}

/**
 * The same for two routing settings of about equal cost. If an optimum has no fit, the sizes that both curves have are
 * compared pairwise: the mean of the differences, with the budget's noise.
 */
export function settingDifference(a: Curve, b: Curve, noise: number | null): Difference {
  if (lossSamples(a).length > 0 && lossSamples(b).length > 0) return lossDifference(a, b, noise);
  const shapeKey = ({ row: { d_model, n_layers, n_heads, d_ff } }: DoneRun) =>
    [d_model, n_layers, n_heads, d_ff].join();
  const sizesOfB = new Map(sizesOf(b.runs).map((runs) => [shapeKey(runs[0] as DoneRun), runs]));
  const pairs = sizesOf(a.runs).flatMap((runs) => {
    const others = sizesOfB.get(shapeKey(runs[0] as DoneRun));
    return others === undefined ? [] : [[runs, others] as const];
  });
  if (pairs.length === 0) return lossDifference(a, b, noise);
  const value = mean(pairs.map(([ofA, ofB]) => meanLoss(ofA) - meanLoss(ofB)));
  const variances = mean(pairs.map(([ofA, ofB]) => 1 / ofA.length + 1 / ofB.length));
  return { value, interval: noiseInterval(value, noise, variances / pairs.length), basis: pairs.length };
}

type Model = Pick<SizeMean, 'loss' | 'seeds'>;

/** Loss of one model minus that of another, seeds averaged, with the budget's noise. */
export function modelDifference(a: Model, b: Model, noise: number | null): Difference {
  const value = a.loss - b.loss;
  return { value, interval: runInterval(value, noise, a.seeds, b.seeds) };
}

/** Combines resamples of two curves: they are independent, so the i-th of one is paired with the i-th of the other. */
export function pairwise(
  a: readonly number[],
  b: readonly number[],
  of: (a: number, b: number) => number,
): number[] {
  const resamples = Math.min(a.length, b.length);
  return a.slice(0, resamples).map((value, i) => of(value, b[i] as number));
}

function lossSamples({ fits, optimum }: Curve): number[] {
  return optimum.lossInterval === null ? [] : fits.params_total.samples.map(({ y }) => y);
}

/** Whether a value is below a bound, by its interval. */
export function below(interval: Interval | null, bound: number): Evidence['verdict'] {
  if (interval === null) return 'undecided';
  if (interval[1] < bound) return 'holds';
  return interval[0] > bound ? 'fails' : 'undecided';
}

/** Whether a value is above a bound, by its interval. */
export function above(interval: Interval | null, bound: number): Evidence['verdict'] {
  return below(interval && [-interval[1], -interval[0]], -bound);
}

/** The verdict on whether all of several statements hold: the worst one. */
export function allHold(...verdicts: Evidence['verdict'][]): Evidence['verdict'] {
  if (verdicts.includes('fails')) return 'fails';
  return verdicts.includes('undecided') ? 'undecided' : 'holds';
}

/** A difference of losses as text, with a note if its uncertainty is unknown. */
export function differenceText({ value, interval: range, basis }: Difference): string {
  const doubts = [
    ...(basis === 'best runs' ? ['of best runs: a curve has no minimum in range'] : []),
    ...(typeof basis === 'number' ? [`size by size, ${basis === 1 ? 'one size' : `${basis} sizes`}`] : []),
    ...(range === null ? ['uncertainty unknown: too few runs'] : []),
  ];
  return `${withInterval(value, range, signedLoss)} nats${doubts.length === 0 ? '' : ` (${doubts.join('; ')})`}`;
}

export const named = (name: string, { value, interval: range }: Difference) => ({
  name,
  value,
  interval: range,
});

/** The curves with the training settings of another one (learning rate, batch, ...); all of them if there are none. */
export function trainedAlike(curves: readonly Curve[], { setting }: Curve): readonly Curve[] {
  const alike = curves.filter((curve) => curve.setting.others === setting.others);
  return alike.length > 0 ? alike : curves;
}

/** The learned MoD curves of a budget; only those trained like its baseline, if there are any. */
export function modAlike(budget: BudgetStudy): readonly Curve[] {
  const curves = curvesOf(budget, 'mod');
  return budget.baseline === null ? curves : trainedAlike(curves, budget.baseline);
}

/** The curves of a variant. */
export const curvesOf = ({ curves }: BudgetStudy, variant: string) =>
  curves.filter(({ setting }) => setting.variant === variant);

/** The model with the lowest loss, seeds averaged, of a variant's curves; null for none. */
export function bestModel(curves: readonly Curve[], variant: Curve['setting']['variant']): SizeMean | null {
  const models = curves.filter(({ setting }) => setting.variant === variant).map(({ best }) => best);
  return models.reduce<SizeMean | null>((a, b) => (a === null || b.loss < a.loss ? b : a), null);
}
