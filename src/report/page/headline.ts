/** The page's headline: at most two sentences. */
import { shownBudget } from '../chosen.js';
import { bestModel } from '../claims/claim.js';
import { fastestAsGood } from '../claims/speed.js';
import { differenceText, isUnknown, lossDifference, modelDifference } from '../differences.js';
import { lossText } from '../nats.js';
import { modelName } from '../settings.js';
import type { Study } from '../study.js';
import { budgetName, significant } from '../words.js';

/** The result at the budget that is shown: loss against the dense model, and speed. */
export function headline({ budgets }: Study): string {
  const budget = shownBudget(budgets);
  if (budget === null) return 'No run has finished yet.';
  const at = `At ${budgetName(budget.budget)} FLOPs`;
  const { baseline, mod, noise, alike } = budget;
  if (baseline === null || mod === null) {
    const best = budget.curves.map((curve) => curve.best).reduce((a, b) => (b.loss < a.loss ? b : a));
    return `${at} the best model, ${modelName(best)}, has a held-out loss of ${lossText(best.loss, best.spec)}.`;
  }
  const found = lossDifference(mod, baseline, noise);
  const [first, second] = [
    bestModel(alike, 'mod') ?? mod.best,
    bestModel(alike, 'baseline') ?? baseline.best,
  ];
  const loss = isUnknown(found)
    ? `${at} the best MoD model, ${modelName(first)}, has a held-out loss of ${lossText(first.loss, first.spec)}; minus that of the best dense model: ${differenceText(modelDifference(first, second, noise))}.`
    : `${at} the optimal MoD, ${mod.setting.name}, has a held-out loss of ${lossText(mod.optimum.loss, mod.best.spec)}; minus that of the optimal dense model: ${differenceText(found)}.`;
  const fast = fastestAsGood(budget);
  const speed =
    fast === null
      ? 'No MoD model that was timed on the same machine is as good as the best dense one.'
      : `The fastest MoD model that is as good as the best dense one, ${modelName(fast.run)}, steps ${significant(fast.speedup)} times as fast.`;
  return `${loss} ${speed}`;
}
