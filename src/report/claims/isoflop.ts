/** Claims about loss at equal training FLOPs: Raposo et al. 2024, section 4.1. */
import {
  type Difference,
  differenceInterval,
  differenceText,
  isUnknown,
  lossDifference,
  modelDifference,
  type Pair,
  pairedDifference,
  plainDifference,
  ratio,
  settingDifference,
} from '../differences.js';
import { pText } from '../doubts.js';
import { modelName } from '../settings.js';
import {
  type BudgetStudy,
  type Curve,
  type DoneRun,
  haveSimilarFlops,
  isDeeper,
  leastLoss,
  type SizeMean,
  type Study,
  sizesOf,
} from '../study.js';
import { significant, withInterval } from '../words.js';
import { bestModel, type Claim, curvesOf, modAlike, named, overBudgets, trainedAlike } from './claim.js';
import { above, allHold, anyHolds, below, type Judgement } from './judgement.js';

/** Ratios of FLOPs per pass that count as 'as many'. */
const AS_MANY = [0.8, 1.25] as const;

export function isoflopClaims(study: Study): Claim[] {
  return [better(study), largerAsCostly(study), randomWorse(study), depth(study)];
}

function better(study: Study): Claim {
  const text = {
    id: 'mod-better',
    claim: 'The optimal MoD transformer has a lower loss than the isoFLOP-optimal baseline.',
    source: '4.1, figures 3 and 4',
  };
  return overBudgets(text, study, 'Needs dense and MoD runs at one budget.', (budget) => {
    const { baseline, mod, alike, noise } = budget;
    if (baseline === null || mod === null) return null;
    const found = lossDifference(mod, baseline, noise);
    const [best, dense] = [bestModel(alike, 'mod'), bestModel(alike, 'baseline')];
    const models = best && dense && { best, dense, difference: modelDifference(best, dense, noise) };
    const settings = modAlike(budget).filter(({ doubt }) => doubt === null);
    const judgement = passedOver(budget, betterThanBaseline(budget, settings, found));
    const chosen =
      settings.length > 1 && judgement.side !== 'undecided'
        ? ` ${pText(judgement.p)} for the choice among ${settings.length} MoD settings.`
        : '';
    return {
      judgement,
      finding: `${mod.setting.label} minus ${baseline.setting.label}: ${differenceText(found)}.${chosen}${byDepth(mod, baseline, budget)}${models === null ? '' : ` Best models: ${seedsOf(models.best)} minus ${seedsOf(models.dense)}, ${differenceText(models.difference)}.`}`,
      numbers: [
        ...named('loss, optimal MoD minus optimal baseline', found),
        ...(models === null ? [] : named('loss, best MoD model minus best dense model', models.difference)),
      ],
    };
  });
}

/** How the answer depends on the shapes: optima at the deepest or widest shapes, and a fit that ignores depth. */
function byDepth(mod: Curve, baseline: Curve, { noise }: BudgetStudy): string {
  const edges = [mod, baseline].flatMap(({ setting, fit, doubt }) =>
    doubt !== null || fit.depthEdge === null
      ? []
      : [` The optimum of ${setting.label} is at the ${fit.depthEdge} shapes trained: others may be better.`],
  );
  const found = lossDifference(mod, baseline, noise);
  const plain = plainDifference(mod, baseline, noise);
  const other =
    plain === null || isUnknown(found) || sideOf(plain) === sideOf(found)
      ? ''
      : ` Parabolas over the size alone, whatever the depth, would give ${differenceText(plain)}.`;
  return `${edges.join('')}${other}`;
}

/** The side of 0 on which an interval is; 0 for both. */
function sideOf(difference: Difference): number {
  const range = differenceInterval(difference);
  return range === null || (range[0] < 0 && range[1] > 0) ? 0 : Math.sign(range[0]);
}

/** Whether some MoD setting is better than the baseline: the best of several is chosen after the fact. */
function betterThanBaseline(
  { baseline, noise }: BudgetStudy,
  settings: readonly Curve[],
  found: Difference,
): Judgement {
  if (baseline === null || settings.length === 0 || isUnknown(found)) return below(found, 0);
  return anyHolds(...settings.map((curve) => below(lossDifference(curve, baseline, noise), 0)));
}

/** No verdict if a setting whose optimum is not known is already better than the optimum that it was passed over for. */
function passedOver(budget: BudgetStudy, judgement: Judgement): Judgement {
  const { baseline } = budget;
  if (baseline === null || judgement.side === 'undecided') return judgement;
  const rivals = judgement.side === 'holds' ? curvesOf(budget, 'baseline') : modAlike(budget);
  const better = rivals.find(({ doubt, best }) => doubt !== null && best.loss < baseline.optimum.loss);
  if (better === undefined || better.doubt === null) return judgement;
  const { reason, remedy } = better.doubt;
  const loss = better.best.loss.toFixed(4);
  return {
    side: 'undecided',
    p: 1,
    doubt: { reason: `${reason}, and its best model is already at ${loss} nats`, remedy },
  };
}

const seedsOf = ({ seeds, ...model }: SizeMean) =>
  `${modelName(model)} (${seeds === 1 ? 'one seed' : `${seeds} seeds`})`;

function largerAsCostly(study: Study): Claim {
  const text = {
    id: 'mod-larger',
    claim:
      'The optimal MoD transformer has more parameters than the optimal baseline and uses as many FLOPs per pass.',
    source: '4.1, figure 4',
  };
  const needs = 'Needs dense and MoD curves whose optima are both known.';
  return overBudgets(text, study, needs, ({ baseline, mod }) => {
    if (baseline === null || mod === null) return null;
    const params = ratioOfOptima(mod, baseline, 'params');
    const flops = ratioOfOptima(mod, baseline, 'flopsPerPass');
    if (params === null || flops === null) return null;
    const asMany = [above(flops.log, Math.log(AS_MANY[0])), below(flops.log, Math.log(AS_MANY[1]))];
    return {
      judgement: allHold(above(params.log, 0), ...asMany),
      finding: `${withInterval(params.value, params.interval, significant)} times the parameters, ${withInterval(flops.value, flops.interval, significant)} times the FLOPs per pass (as many: within a quarter).`,
      numbers: [
        { name: 'parameters, MoD over baseline', value: params.value, interval: params.interval },
        { name: 'FLOPs per pass, MoD over baseline', value: flops.value, interval: flops.interval },
      ],
    };
  });
}

/** The ratio of two optima's sizes; null unless both are known. */
export function ratioOfOptima(
  { doubt: doubtOfA, optimum: a, fit: ofA }: Curve,
  { doubt: doubtOfB, optimum: b, fit: ofB }: Curve,
  measure: 'params' | 'flopsPerPass',
) {
  if (doubtOfA !== null || doubtOfB !== null) return null;
  const interval = measure === 'params' ? 'paramsInterval' : 'flopsInterval';
  return ratio([a[measure], a[interval]], [b[measure], b[interval]], Math.min(ofA.freedom, ofB.freedom));
}

function randomWorse(study: Study): Claim {
  const text = {
    id: 'random-worse',
    claim: 'Random routing is much worse than learned routing, and than the baseline.',
    source: '4.1, figure 3',
  };
  const needs = 'Needs dense, MoD and random-control runs at one budget.';
  return overBudgets(text, study, needs, (budget) => {
    const { noise } = budget;
    const random = leastLoss(curvesOf(budget, 'random'));
    if (random === null) return null;
    const alike = (curves: readonly Curve[]) => leastLoss(trainedAlike(curves, random));
    const mod = alike(curvesOf(budget, 'mod').filter((curve) => sameRouting(curve, random)));
    const dense = alike(curvesOf(budget, 'baseline'));
    if (mod === null || dense === null) return null;
    const fromMod = settingDifference(random, mod, noise);
    const fromDense = lossDifference(random, dense, noise);
    return {
      judgement: allHold(above(fromMod, 0), above(fromDense, 0)),
      finding: `Random minus ${mod.setting.label}: ${differenceText(fromMod)}; minus ${dense.setting.label}: ${differenceText(fromDense)}.`,
      numbers: [
        ...named('loss, random minus learned', fromMod),
        ...named('loss, random minus baseline', fromDense),
      ],
    };
  });
}

function sameRouting({ setting: a }: Curve, { setting: b }: Curve): boolean {
  return (['capacity', 'frequency', 'gate', 'aux_loss_weight'] as const).every((key) => a[key] === b[key]);
}

/** Relative difference of FLOPs per pass up to which they count as equal. */
const EQUAL_FLOPS = 0.05;

function depth(study: Study): Claim {
  const text = {
    id: 'depth',
    claim: 'FLOPs that routing saves are better spent on depth than on width.',
    source: '4.1',
  };
  const needs =
    'Needs MoD runs of one setting with equal FLOPs per pass (within 5%) and depth over width at least 1.5 times apart.';
  return overBudgets(text, study, needs, (budget) => {
    const pairs = curvesOf(budget, 'mod').flatMap(deepWidePairs);
    if (pairs.length === 0) return null;
    const found = pairedDifference(pairs, budget.noise);
    return {
      judgement: below(found, 0),
      finding: `Deeper minus wider: ${differenceText(found)}.`,
      numbers: named('loss, deeper minus wider', found),
    };
  });
}

/** The seeds that both have, or all seeds of both. */
function deepWidePairs({ runs }: Curve): Pair[] {
  const shapes = sizesOf(runs);
  return shapes.flatMap((deep) =>
    shapes
      .filter(([wide]) => isDeeper(deep[0] as DoneRun, wide as DoneRun))
      .filter(([wide]) => haveSimilarFlops(deep[0] as DoneRun, wide as DoneRun, EQUAL_FLOPS))
      .map((wide): Pair => {
        const shared = (of: readonly DoneRun[], other: readonly DoneRun[]) => {
          const both = of.filter(({ seed }) => other.some((one) => one.seed === seed));
          return both.length > 0 ? both : of;
        };
        return [shared(deep, wide), shared(wide, deep)];
      }),
  );
}
