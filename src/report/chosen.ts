/** Chooses the few models of a budget that a report shows individually: the best of each kind, and the fastest as good. */
import { VARIANTS } from '../model/variants.js';
import { fastestAsGood } from './claims/speed.js';
import { type BudgetStudy, leastLoss, type SizeMean } from './study.js';

export interface ChosenModel {
  /** Why it is shown: `best dense`. */
  role: string;
  run: SizeMean;
}

/** The best dense model first; a run with two roles appears once, with both. */
export function chosenModels(budget: BudgetStudy): ChosenModel[] {
  const { baseline, mod, curves } = budget;
  const random = leastLoss(curves.filter(({ setting }) => setting.variant === 'random'));
  const experts = leastLoss(curves.filter(({ setting }) => VARIANTS[setting.variant].family === 'experts'));
  const roles: [string, SizeMean | undefined][] = [
    ['best dense', baseline?.best],
    ['best MoD', mod?.best],
    ['fastest as good', fastestAsGood(budget)?.run],
    ['best random', random?.best],
    ['best with experts', experts?.best],
  ];
  const chosen: ChosenModel[] = [];
  for (const [role, run] of roles) {
    if (run === undefined) continue;
    const same = chosen.find((one) => one.run.row.run_id === run.row.run_id);
    if (same === undefined) chosen.push({ role, run });
    else same.role = `${same.role}, ${role}`;
  }
  return chosen;
}

/** The budget whose models are shown individually: the largest with both dense and MoD runs, else the largest. */
export function shownBudget(budgets: readonly BudgetStudy[]): BudgetStudy | null {
  const sorted = [...budgets].sort((a, b) => b.budget - a.budget);
  return sorted.find(({ baseline, mod }) => baseline !== null && mod !== null) ?? sorted[0] ?? null;
}
