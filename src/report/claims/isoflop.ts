/** Claims about loss at equal training FLOPs: Raposo et al. 2024, section 4.1. */
import { noiseInterval } from '../noise.js';
import { type Interval, interval } from '../parabola.js';
import {
  type Curve,
  type DoneRun,
  haveSimilarFlops,
  isDeeper,
  leastLoss,
  type SizeMean,
  type Study,
  sampledX,
} from '../study.js';
import { significant, withInterval } from '../words.js';
import {
  above,
  allHold,
  below,
  bestModel,
  type Claim,
  curvesOf,
  type Difference,
  differenceText,
  lossDifference,
  modelDifference,
  named,
  overBudgets,
  pairwise,
  settingDifference,
  trainedAlike,
} from './claim.js';

/** Ratios of FLOPs per pass that count as 'as many'. */
const AS_MANY: Interval = [0.8, 1.25];

export function isoflopClaims(study: Study): Claim[] {
  return [better(study), largerAsCostly(study), randomWorse(study), depth(study)];
}

function better(study: Study): Claim {
  const text = {
    id: 'mod-better',
    claim: 'The optimal MoD transformer has a lower loss than the isoFLOP-optimal baseline.',
    source: '4.1, figures 3 and 4',
  };
  return overBudgets(
    text,
    study,
    'Needs dense and MoD runs at one budget.',
    ({ baseline, mod, alike, noise }) => {
      if (baseline === null || mod === null) return null;
      const found = lossDifference(mod, baseline, noise);
      const [best, dense] = [bestModel(alike, 'mod'), bestModel(alike, 'baseline')];
      const models = best && dense && { best, dense, ...modelDifference(best, dense, noise) };
      return {
        verdict: below(found.interval, 0),
        finding: `${mod.setting.label} minus ${baseline.setting.label}: ${differenceText(found)}.${models === null ? '' : ` Best models: ${seedsOf(models.best)} minus ${seedsOf(models.dense)}, ${differenceText(models)}.`}`,
        numbers: [
          named('loss, optimal MoD minus optimal baseline', found),
          ...(models === null ? [] : [named('loss, best MoD model minus best dense model', models)]),
        ],
      };
    },
  );
}

const seedsOf = ({ row, seeds }: SizeMean) =>
  `${row.run_id} (${seeds === 1 ? 'one seed' : `${seeds} seeds`})`;

function largerAsCostly(study: Study): Claim {
  const text = {
    id: 'mod-larger',
    claim:
      'The optimal MoD transformer has more parameters than the optimal baseline and uses as many FLOPs per pass.',
    source: '4.1, figure 4',
  };
  const needs = 'Needs dense and MoD curves of four sizes or more that both have their minimum in range.';
  return overBudgets(text, study, needs, ({ baseline, mod }) => {
    if (baseline === null || mod === null) return null;
    const params = ratioOfOptima(mod, baseline, 'params_total');
    const flops = ratioOfOptima(mod, baseline, 'flops_per_pass');
    if (params === null || flops === null) return null;
    const asMany = allHold(above(flops.interval, AS_MANY[0]), below(flops.interval, AS_MANY[1]));
    return {
      verdict: allHold(above(params.interval, 1), asMany),
      finding: `${withInterval(params.value, params.interval, significant)} times the parameters, ${withInterval(flops.value, flops.interval, significant)} times the FLOPs per pass (as many: within a quarter).`,
      numbers: [
        named('parameters, MoD over baseline', params),
        named('FLOPs per pass, MoD over baseline', flops),
      ],
    };
  });
}

/** The ratio of two optima's sizes; null unless both come from a fit. */
function ratioOfOptima(a: Curve, b: Curve, axis: 'params_total' | 'flops_per_pass'): Difference | null {
  const [ofA, ofB] = [a.fits[axis], b.fits[axis]];
  if (ofA.x === null || ofB.x === null) return null;
  const ratios = pairwise(sampledX(ofA), sampledX(ofB), (x, y) => 10 ** (x - y));
  return { value: 10 ** (ofA.x - ofB.x), interval: ratios.length === 0 ? null : interval(ratios) };
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
      verdict: allHold(above(fromMod.interval, 0), above(fromDense.interval, 0)),
      finding: `Random minus ${mod.setting.label}: ${differenceText(fromMod)}; minus ${dense.setting.label}: ${differenceText(fromDense)}.`,
      numbers: [
        named('loss, random minus learned', fromMod),
        named('loss, random minus baseline', fromDense),
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
    const found = meanDifference(pairs, budget.noise);
    return {
      verdict: below(found.interval, 0),
      finding: `Deeper minus wider, ${pairs.length === 1 ? 'one pair' : `mean of ${pairs.length} pairs`}: ${differenceText(found)}.`,
      numbers: [named('loss, deeper minus wider', found)],
    };
  });
}

function deepWidePairs({ runs }: Curve): [DoneRun, DoneRun][] {
  return runs.flatMap((deep) =>
    runs
      .filter((wide) => isDeeper(deep, wide) && deep.row.seed === wide.row.seed)
      .filter((wide) => haveSimilarFlops(deep, wide, EQUAL_FLOPS))
      .map((wide): [DoneRun, DoneRun] => [deep, wide]),
  );
}

/** The mean over pairs. A run in several pairs has a larger weight, but remains one sample. */
function meanDifference(pairs: readonly [DoneRun, DoneRun][], noise: number | null): Difference {
  const weights = new Map<DoneRun, number>();
  for (const [first, second] of pairs) {
    weights.set(first, (weights.get(first) ?? 0) + 1 / pairs.length);
    weights.set(second, (weights.get(second) ?? 0) - 1 / pairs.length);
  }
  const value = [...weights].reduce((sum, [{ loss }, weight]) => sum + weight * loss, 0);
  const squares = [...weights.values()].reduce((sum, weight) => sum + weight ** 2, 0);
  return { value, interval: noiseInterval(value, noise, squares) };
}
