/** Log residuals: a second view of the isoFLOP figure, in which the distance of each run from its own curve is visible. */
import * as Plot from '@observablehq/plot';
import { shownBudget } from '../chosen.js';
import { isKnown } from '../fits.js';
import { modelName } from '../settings.js';
import type { Curve, Study } from '../study.js';
import { budgetName, shortCount, signedPercent } from '../words.js';
import {
  draw,
  type Figure,
  linearTicks,
  logTicks,
  type MissingFigure,
  ofRun,
  seriesClass,
} from './figure.js';
import { legendOf, type Style } from './style.js';

/** The logarithm of each run's loss over its curve's loss at the same size, at the budget that is shown. */
export function residualsFigure(
  { budgets }: Study,
  styles: ReadonlyMap<string, Style>,
): Figure | MissingFigure {
  const title = 'Log residuals of the isoFLOP fits';
  const budget = shownBudget(budgets);
  const curves = (budget?.alike ?? []).filter(({ fit }) => isKnown(fit));
  const points = curves.flatMap((curve) =>
    curve.runs.flatMap((run) => {
      const fitted = lossAt(curve, run.row.params_total);
      return fitted === null ? [] : [{ run, x: run.row.params_total, y: Math.log(run.loss / fitted) }];
    }),
  );
  if (budget === null || points.length === 0)
    return { title, paper: null, needs: 'Needs a curve whose optimum is known.' };
  const [xs, ys] = [points.map(({ x }) => x), points.map(({ y }) => y)];
  const [low, high] = [Math.min(...ys, 0), Math.max(...ys, 1e-6)];
  const domain = [low - 0.05 * (high - low), high + 0.05 * (high - low)] as const;
  const svg = draw({
    title,
    description: `Logarithm of the loss over the loss of the run's own curve, against parameters, at ${budgetName(budget.budget)} FLOPs, one point per run.`,
    legend: legendOf(
      curves.map(({ setting }) => setting),
      styles,
    ).map(({ dash: _, ...entry }) => entry),
    plot: {
      x: {
        type: 'log',
        label: 'parameters',
        tickFormat: shortCount,
        ticks: logTicks(Math.min(...xs), Math.max(...xs)),
      },
      y: {
        label: 'ln(loss / fit)',
        grid: true,
        domain,
        ticks: linearTicks(...domain, 5),
      },
      marks: [
        Plot.ruleY([0], { strokeOpacity: 0.5 }),
        ...curves.map(({ setting }) => {
          const { color, symbol } = styles.get(setting.key) as Style;
          return Plot.dot(
            points.filter(({ run }) => run.setting.key === setting.key),
            {
              x: 'x',
              y: 'y',
              r: 4,
              fill: color,
              fillOpacity: 0.85,
              symbol,
              className: seriesClass(setting.shortLabel),
              title: ({ run, y }: (typeof points)[number]) =>
                ofRun(
                  run.row.run_id,
                  `${modelName(run)}, seed ${run.row.seed}\nloss ${signedPercent(Math.expm1(y))} from its curve`,
                ),
            },
          );
        }),
      ],
    },
  });
  const deviation = Math.sqrt(ys.reduce((sum, y) => sum + y * y, 0) / ys.length);
  const reading = `Losses at ${budgetName(budget.budget)} FLOPs are ${(100 * deviation).toFixed(2)}% from their curves, root mean square over ${points.length} runs.`;
  const notes = curves.some(({ fit }) => fit.kind === 'size and depth')
    ? 'Where a curve is fitted over size and depth, its line is that of the best depth: shapes of other depths are above it.'
    : '';
  const rows = points.map(({ run, x, y }) => [run.row.run_id, run.setting.name, x, y]);
  const table = { head: ['run', 'setting', 'parameters', 'ln(loss / fit)'], rows };
  return { id: 'residuals', title, paper: null, reading, notes, svg, table, wide: false };
}

/** The loss of a curve's line at a size, linear in the logarithm of the parameters; null outside the line. */
function lossAt({ fit: { line } }: Curve, params: number): number | null {
  const after = line.findIndex((point) => point.params >= params * (1 - 1e-9));
  const right = line[after];
  if (right === undefined) return null;
  const left = line[after - 1];
  if (left === undefined) return right.params <= params * (1 + 1e-9) ? right.loss : null;
  const share = Math.log(params / left.params) / Math.log(right.params / left.params);
  return left.loss + Math.min(1, share) * (right.loss - left.loss);
}
