/** Claims about routing settings at equal training FLOPs: frequency, capacity, experts. */
import { type Difference, differenceText, lossDifference, settingDifference } from '../differences.js';
import type { BudgetStudy, Curve, Study } from '../study.js';
import { leastLoss } from '../study.js';
import { type Claim, curvesOf, type Evidence, named, overBudgets, trainedAlike } from './claim.js';
import { allHold, below } from './judgement.js';

export function routingSettingClaims(study: Study): Claim[] {
  return [
    everyOtherBlock(study),
    eighthBest(study),
    expertsBetter(study),
    integratedBetterThanDropping(study),
  ];
}

/** Pairs of learned MoD curves that differ only in one key. */
function pairs(
  budget: BudgetStudy,
  key: 'frequency' | 'capacity',
  isFirst: (value: number) => boolean,
  isSecond: (value: number) => boolean,
): [Curve, Curve][] {
  const rest = ({ setting }: Curve) => {
    const { capacity, frequency, gate, aux_loss_weight, others } = setting;
    return JSON.stringify([key === 'capacity' ? frequency : capacity, gate, aux_loss_weight, others]);
  };
  const curves = curvesOf(budget, 'mod');
  const value = (curve: Curve) => curve.setting[key] as number;
  return curves
    .filter((curve) => isFirst(value(curve)))
    .flatMap((first) =>
      curves
        .filter((second) => isSecond(value(second)) && rest(second) === rest(first))
        .map((second): [Curve, Curve] => [first, second]),
    );
}

function everyOtherBlock(study: Study): Claim {
  const text = {
    id: 'every-other-block',
    claim: 'Routing every other block is better than routing every block.',
    source: '4.1',
  };
  const needs = 'Needs MoD runs of one capacity with routing frequencies 1 and 2.';
  return overBudgets(text, study, needs, (budget) => {
    const found = pairs(
      budget,
      'frequency',
      (f) => f === 2,
      (f) => f === 1,
    );
    return comparePairs(
      found,
      (pair) => lossDifference(...pair, budget.noise),
      ([first, second]) => `${first.setting.shortLabel} minus ${second.setting.shortLabel}`,
    );
  });
}

const capacityOf = ({ setting }: Curve) => `${Number((100 * (setting.capacity as number)).toPrecision(4))}%`;

/** Tests whether the first of each pair has the lower loss; null without pairs. */
function comparePairs(
  found: [Curve, Curve][],
  compare: (pair: [Curve, Curve]) => Difference,
  name: (pair: [Curve, Curve]) => string,
): Evidence | null {
  if (found.length === 0) return null;
  const differences = found.map((pair) => ({ pair, difference: compare(pair) }));
  return {
    judgement: allHold(...differences.map(({ difference }) => below(difference, 0))),
    finding: `${differences.map(({ pair, difference }) => `${name(pair)}: ${differenceText(difference)}`).join('; ')}.`,
    numbers: differences.flatMap(({ pair, difference }) => named(`loss, ${name(pair)}`, difference)),
  };
}

const EIGHTH = 0.125;

function eighthBest(study: Study): Claim {
  const text = {
    id: 'capacity-12.5',
    claim: 'A capacity of 12.5% is the best; below it the loss rises.',
    source: '4.1',
  };
  const needs = 'Needs MoD runs at 12.5%, at a smaller and at a larger capacity.';
  return overBudgets(text, study, needs, (budget) => {
    const smaller = pairs(
      budget,
      'capacity',
      (c) => c === EIGHTH,
      (c) => c < EIGHTH,
    );
    const larger = pairs(
      budget,
      'capacity',
      (c) => c === EIGHTH,
      (c) => c > EIGHTH,
    );
    if (smaller.length === 0 || larger.length === 0) return null;
    const name = ([eighth, other]: [Curve, Curve]) => `${eighth.setting.label} minus ${capacityOf(other)}`;
    return comparePairs([...smaller, ...larger], (pair) => settingDifference(...pair, budget.noise), name);
  });
}

function expertsBetter(study: Study): Claim {
  const text = {
    id: 'mode-better',
    claim: 'Mixture-of-Depths-and-Experts is better than mixture of experts alone.',
    source: '4.3, figure 7',
  };
  return overBudgets(text, study, 'Needs MoE and MoDE runs at one budget.', (budget) => {
    const mode = leastLoss([...curvesOf(budget, 'mode-integrated'), ...curvesOf(budget, 'mode-staged')]);
    return compareAlike(mode, curvesOf(budget, 'moe'), (pair) => lossDifference(...pair, budget.noise));
  });
}

function integratedBetterThanDropping(study: Study): Claim {
  const text = {
    id: 'integrated-better',
    claim: 'Integrated MoDE is better than experts whose capacity is reduced so that they drop tokens.',
    source: '4.3',
  };
  return overBudgets(text, study, 'Needs mode-integrated and moe-reduced runs at one budget.', (budget) =>
    compareAlike(leastLoss(curvesOf(budget, 'mode-integrated')), curvesOf(budget, 'moe-reduced'), (pair) =>
      settingDifference(...pair, budget.noise),
    ),
  );
}

/** Compares a curve with the best of the others that are trained like it. */
function compareAlike(
  first: Curve | null,
  others: readonly Curve[],
  compare: (pair: [Curve, Curve]) => Difference,
): Evidence | null {
  const second = first && leastLoss(trainedAlike(others, first));
  if (first === null || second === null) return null;
  return comparePairs([[first, second]], compare, ([a, b]) => `${a.setting.label} minus ${b.setting.label}`);
}
