/** What a claim of the paper is, and how evidence from several budgets makes one verdict. */
import { noiseInterval, runInterval } from '../noise.js';
import { type Interval, interval } from '../parabola.js';
import type { BudgetStudy, Curve, DoneRun, SizeMean, Study } from '../study.js';
import { meanLoss, sizesOf } from '../study.js';
import { budgetName, signedLoss, withInterval } from '../words.js';

export type Verdict =
  | 'holds'
  | 'fails'
  /** The data bears on the claim and its uncertainty reaches to both sides, or is unknown. */
  | 'undecided'
  | 'not tested';

export interface Claim {
  id: string;
  /** The claim, in a sentence. */
  claim: string;
  /** Where the paper makes it: `4.1`, `figure 3`. */
  source: string;
  verdict: Verdict;
  /** What this data says, with its numbers, a line a budget; of a claim not tested what it would take. */
  finding: string;
  numbers: ClaimNumber[];
}

/** A number behind a verdict, and its 95% interval where that is known. */
export interface ClaimNumber {
  /** Null for numbers that belong to no one budget. */
  flop_budget: number | null;
  name: string;
  value: number;
  interval: Interval | null;
}

/** What one part of the data, usually a budget, says about a claim. */
export interface Evidence {
  verdict: Exclude<Verdict, 'not tested'>;
  finding: string;
  numbers: Omit<ClaimNumber, 'flop_budget'>[];
}

type ClaimText = Pick<Claim, 'id' | 'claim' | 'source'>;

/** Judges a claim at every budget; null where a budget does not test it, and where none does `needs` says what would. */
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
    verdict: together(judged.map(({ verdict }) => verdict)),
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

/** A claim that is judged on all data at once. */
export function overall(text: ClaimText, needs: string, evidence: Evidence | null): Claim {
  if (evidence === null) return { ...text, verdict: 'not tested', finding: needs, numbers: [] };
  const { verdict, finding, numbers } = evidence;
  return { ...text, verdict, finding, numbers: numbers.map((one) => ({ ...one, flop_budget: null })) };
}

/** One verdict of several: that of the budgets that decide, where they agree. One that cannot tell contradicts none. */
function together(verdicts: Evidence['verdict'][]): Verdict {
  if (verdicts.length === 0) return 'not tested';
  const [first, ...others] = new Set(verdicts.filter((verdict) => verdict !== 'undecided'));
  return first === undefined || others.length > 0 ? 'undecided' : first;
}

/** A difference, its 95% interval, and what the interval rests on. */
export interface Difference {
  value: number;
  interval: Interval | null;
  /** What stands for optima that no fit knows: the best size's runs, or the sizes that both curves have. */
  basis?: 'best runs' | number;
}

/**
 * Loss of a's optimum minus that of b's. The interval is that of the bootstrap where both curves have one, else that of
 * the best sizes' runs under the budget's noise, else unknown.
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
 * The same for two routing settings of one model that cost about as much. Where an optimum is not known by a fit, the sizes that
 * both have are compared, each with itself: the mean of the differences, under the budget's noise.
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
  const mean = (of: (pair: (typeof pairs)[number]) => number) =>
    pairs.reduce((sum, pair) => sum + of(pair), 0) / pairs.length;
  const value = mean(([ofA, ofB]) => meanLoss(ofA) - meanLoss(ofB));
  const variances = mean(([ofA, ofB]) => 1 / ofA.length + 1 / ofB.length);
  return { value, interval: noiseInterval(value, noise, variances / pairs.length), basis: pairs.length };
}

type Model = Pick<SizeMean, 'loss' | 'seeds'>;

/** Loss of one model minus that of another, seeds averaged, under the budget's noise. */
export function modelDifference(a: Model, b: Model, noise: number | null): Difference {
  const value = a.loss - b.loss;
  return { value, interval: runInterval(value, noise, a.seeds, b.seeds) };
}

/** Resamples of two curves are independent: the i-th of one goes with the i-th of the other. */
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

/** Whether a value lies below a bound, as far as its interval tells. */
export function below(interval: Interval | null, bound: number): Evidence['verdict'] {
  if (interval === null) return 'undecided';
  if (interval[1] < bound) return 'holds';
  return interval[0] > bound ? 'fails' : 'undecided';
}

/** The opposite of `below`. */
export function above(interval: Interval | null, bound: number): Evidence['verdict'] {
  return below(interval && [-interval[1], -interval[0]], -bound);
}

/** All must hold: the worst of several verdicts. */
export function both(...verdicts: Evidence['verdict'][]): Evidence['verdict'] {
  if (verdicts.includes('fails')) return 'fails';
  return verdicts.includes('undecided') ? 'undecided' : 'holds';
}

/** A difference of losses for people. Unknown uncertainty is said, not hidden. */
export function difference({ value, interval: range, basis }: Difference): string {
  const doubts = [
    ...(basis === 'best runs' ? ['of best runs: a curve has no minimum in range'] : []),
    ...(typeof basis === 'number' ? [`size by size, ${basis === 1 ? 'one size' : `${basis} sizes`}`] : []),
    ...(range === null ? ['its uncertainty is not known: too few runs'] : []),
  ];
  return `${withInterval(value, range, signedLoss)} nats${doubts.length === 0 ? '' : ` (${doubts.join('; ')})`}`;
}

export const named = (name: string, { value, interval: range }: Difference) => ({
  name,
  value,
  interval: range,
});

/** Of several curves those that are trained like another one, in learning rate and the like; where none is, all. */
export function trainedAlike(curves: readonly Curve[], { setting }: Curve): readonly Curve[] {
  const alike = curves.filter((curve) => curve.setting.others === setting.others);
  return alike.length > 0 ? alike : curves;
}

/** The learned MoD curves of a budget: those trained like its baseline, where there are any. */
export function modAlike(budget: BudgetStudy): readonly Curve[] {
  const curves = curvesOf(budget, 'mod');
  return budget.baseline === null ? curves : trainedAlike(curves, budget.baseline);
}

/** The curves of a variant. */
export const curvesOf = ({ curves }: BudgetStudy, variant: string) =>
  curves.filter(({ setting }) => setting.variant === variant);

/** The model of least loss, seeds averaged, of a variant's curves; null for none. */
export function bestModel(curves: readonly Curve[], variant: Curve['setting']['variant']): SizeMean | null {
  const models = curves.filter(({ setting }) => setting.variant === variant).map(({ best }) => best);
  return models.reduce<SizeMean | null>((a, b) => (a === null || b.loss < a.loss ? b : a), null);
}
