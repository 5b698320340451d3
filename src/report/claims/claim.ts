/** Claims of the paper: combines the evidence of several budgets into one verdict. */
import type { Interval } from '../curve-fit.js';
import { type Difference, isUnknown } from '../differences.js';
import { pText } from '../doubts.js';
import { intervalOf } from '../estimate.js';
import type { BudgetStudy, Curve, SizeMean, Study } from '../study.js';
import { budgetName } from '../words.js';
import { holm, type Judgement, LEVEL } from './judgement.js';

export type Verdict =
  | 'holds'
  | 'fails'
  /** The data tests the claim, but does not decide it. */
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
  /** The budgets that decide the verdict. */
  decided_by: number[];
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
  judgement: Judgement;
  finding: string;
  numbers: Omit<ClaimNumber, 'flop_budget'>[];
}

type ClaimText = Pick<Claim, 'id' | 'claim' | 'source'>;

/**
 * Judges a claim at every budget; the p of the budgets are adjusted for their number (Holm 1979), as any of them may decide.
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
  const found = budgets.flatMap((study) => {
    const evidence = judge(study);
    return evidence === null ? [] : [{ ...evidence, budget: study.budget }];
  });
  if (found.length === 0)
    return { ...text, verdict: 'not tested', finding: needs, decided_by: [], numbers: [] };
  const ps = holm(found.map(({ judgement }) => judgement.p));
  const judged = found.map((one, i) => ({ ...one, ...verdictOf(one.judgement, ps[i] as number) }));
  const deciding = judged.filter(({ verdict }) => verdict !== 'undecided');
  const verdict = combined(deciding.map((one) => one.verdict));
  const several = budgets.length > 1;
  const lines = judged.map((one) => {
    const sentence = `${one.finding}${one.why === '' ? '' : ` ${one.why}`}`;
    return several ? `At ${budgetName(one.budget)} (${one.verdict}): ${sentence}` : sentence;
  });
  const [only] = deciding;
  const one =
    several && verdict !== 'undecided' && deciding.length === 1 && only !== undefined
      ? [`One budget decides, ${budgetName(only.budget)}.`]
      : [];
  return {
    ...text,
    verdict,
    finding: [...lines, ...one].join('\n'),
    decided_by: deciding.map(({ budget }) => budget),
    numbers: judged.flatMap(({ numbers, budget }) =>
      numbers.map((number) => ({ ...number, flop_budget: budget })),
    ),
  };
}

/** A claim judged on all data at once. */
export function overall(text: ClaimText, needs: string, evidence: Evidence | null): Claim {
  if (evidence === null)
    return { ...text, verdict: 'not tested', finding: needs, decided_by: [], numbers: [] };
  const { judgement, finding, numbers } = evidence;
  const { verdict, why } = verdictOf(judgement, judgement.p);
  return {
    ...text,
    verdict,
    finding: why === '' ? finding : `${finding} ${why}`,
    decided_by: [],
    numbers: numbers.map((one) => ({ ...one, flop_budget: null })),
  };
}

/** The verdict of a judgement whose p is adjusted, and why it is undecided. */
function verdictOf(
  judgement: Judgement,
  adjusted: number,
): { verdict: Exclude<Verdict, 'not tested'>; why: string } {
  const { side, p, doubt } = judgement;
  if (side === 'undecided') {
    const why = doubt === null ? '' : `Undecided: ${doubt.reason}. To decide it: ${doubt.remedy}.`;
    return { verdict: 'undecided', why };
  }
  if (adjusted <= LEVEL) return { verdict: side, why: '' };
  if (p > LEVEL) return { verdict: 'undecided', why: effortText(judgement.runs) };
  const why = `${pText(p)}; ${pText(adjusted)} over all budgets.`;
  return { verdict: 'undecided', why };
}

/** More times the runs are not asked for. */
const MANY_RUNS = 20;

/** How many seeds would decide a difference; intervals shrink as one over the root of their number. */
function effortText(runs: number | undefined): string {
  if (runs === undefined || runs <= 1) return '';
  const times = Math.ceil(runs);
  return times > MANY_RUNS
    ? `To decide a difference of this size: more than ${MANY_RUNS} times the seeds.`
    : `To decide a difference of this size: ${times} times the seeds.`;
}

/** The verdict of the budgets that decide, if they agree; undecided budgets contradict none. */
function combined(verdicts: readonly Verdict[]): Verdict {
  const [first, ...others] = new Set(verdicts);
  return first === undefined || others.length > 0 ? 'undecided' : first;
}

/** A known difference as a number of a claim; nothing for an unknown one. */
export function named(name: string, difference: Difference): Evidence['numbers'] {
  if (isUnknown(difference)) return [];
  return [{ name, value: difference.value, interval: intervalOf(difference) }];
}

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
