/** Loss against the learning rate for each kind of model, and warnings where the rates that were tried do not settle it. */
import { mean } from '../statistics.js';
import { groupBy } from './group.js';
import { leastSquares } from './least-squares.js';
import type { BudgetStudy, DoneRun } from './study.js';
import { budgetName, significant } from './words.js';

/** The losses of one shape of one kind at several learning rates. */
export interface RateCurve {
  budget: number;
  /** `dense`, `MoD 12.5%, every other block`. */
  kind: string;
  d_model: number;
  n_layers: number;
  /** By increasing rate. */
  points: { rate: number; loss: number; seeds: number }[];
  /** Where the lowest loss is among the rates that were tried. */
  best: 'between' | 'lowest' | 'highest';
}

/** Every shape that was trained at two rates or more. */
export function rateCurves(budgets: readonly BudgetStudy[]): RateCurve[] {
  return budgets.flatMap(({ budget, curves }) => {
    const runs = curves.flatMap((curve) => curve.runs);
    return [...groupBy(runs, shapeKey).values()].flatMap((ofShape) => curveOf(budget, ofShape) ?? []);
  });
}

const shapeKey = ({
  setting,
  row: { d_model, n_layers, n_heads, d_ff },
  spec: { batch_sequences, training },
}: DoneRun) =>
  [setting.shortLabel, d_model, n_layers, n_heads, d_ff, batch_sequences, training.parametrization].join();

function curveOf(budget: number, runs: readonly [DoneRun, ...DoneRun[]]): RateCurve | null {
  const byRate = [...groupBy(runs, ({ spec }) => spec.training.learning_rate)].sort(([a], [b]) => a - b);
  if (byRate.length < 2) return null;
  const points = byRate.map(([rate, ofRate]) => ({
    rate,
    loss: mean(ofRate.map(({ loss }) => loss)),
    seeds: ofRate.length,
  }));
  const least = points.reduce((low, point, i) => (point.loss < (points[low]?.loss ?? 0) ? i : low), 0);
  const [{ setting, row }] = runs;
  return {
    budget,
    kind: setting.shortLabel,
    d_model: row.d_model,
    n_layers: row.n_layers,
    points,
    best: least === 0 ? 'lowest' : least === points.length - 1 ? 'highest' : 'between',
  };
}

/**
 * One sentence for each budget whose rates do not settle the comparison of dense and MoD models: a kind that is best at an end
 * of the rates tried, or that was tried at fewer rates than the other.
 */
export function rateWarnings(budgets: readonly BudgetStudy[]): string[] {
  return budgets.flatMap((study) => {
    const { baseline, mod, budget } = study;
    if (baseline === null || mod === null) return [];
    const curves = rateCurves([study]);
    const [dense, routed] = [baseline, mod].map(({ setting: { shortLabel } }) => {
      const rates = study.curves
        .filter(({ setting }) => setting.shortLabel === shortLabel)
        .flatMap(({ runs }) => runs.map(({ spec }) => spec.training.learning_rate));
      return {
        label: shortLabel,
        rates: [...new Set(rates)],
        curves: curves.filter(({ kind }) => kind === shortLabel),
      };
    }) as [Kind, Kind];
    const [fewer, more] = dense.rates.length < routed.rates.length ? [dense, routed] : [routed, dense];
    const parts = [dense, routed].flatMap((kind) => endText(kind) ?? []);
    if (fewer.rates.length < more.rates.length) {
      parts.push(`${fewer.label} was tried at ${fewer.rates.length}, ${more.label} at ${more.rates.length}`);
    }
    return parts.length === 0
      ? []
      : [
          `The learning rates at ${budgetName(budget)} FLOPs do not settle the comparison: ${parts.join('; ')}.`,
        ];
  });
}

interface Kind {
  label: string;
  rates: number[];
  curves: RateCurve[];
}

/** A warning if a kind is best at an end of the rates tried for it; null if not. */
function endText({ label, curves }: Kind): string | null {
  const effects = rateEffects(curves);
  if (effects === null) return null;
  const [best] = [...effects].sort((a, b) => a.effect - b.effect);
  const at = effects.findIndex(({ rate }) => rate === best?.rate);
  if (best === undefined || (at > 0 && at < effects.length - 1)) return null;
  return `the best rate of ${label} is the ${at === 0 ? 'lowest' : 'highest'} of those tried, ${significant(best.rate)}`;
}

/** The effect of each rate on the loss, by increasing rate: losses as a sum of shape and rate. Null if the shapes do not link them. */
function rateEffects(curves: readonly RateCurve[]): { rate: number; effect: number }[] | null {
  const rates = [...new Set(curves.flatMap(({ points }) => points.map(({ rate }) => rate)))].sort(
    (a, b) => a - b,
  );
  if (rates.length < 2) return null;
  const rows = curves.flatMap(({ points }, shape) =>
    points.map(({ rate }) => [
      ...curves.map((_, i) => Number(i === shape)),
      ...rates.slice(1).map((one) => Number(one === rate)),
    ]),
  );
  const points = curves.flatMap((curve) => curve.points);
  const fit = leastSquares(
    rows,
    points.map(({ loss }) => loss),
    points.map(({ seeds }) => seeds),
  );
  if (fit === null) return null;
  const effects = [0, ...fit.beta.slice(curves.length)];
  return rates.map((rate, i) => ({ rate, effect: effects[i] as number }));
}
