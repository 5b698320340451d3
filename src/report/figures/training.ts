/** Training of chosen models: learning curves, and the predictor's accuracy (figures 3 middle and 6 right). */
import * as Plot from '@observablehq/plot';
import { type ChosenModel, chosenModels, shownBudget } from '../chosen.js';
import { modAlike } from '../claims/claim.js';
import { accuracyReached, GOOD_ACCURACY } from '../claims/sampling.js';
import { modelName } from '../settings.js';
import { type CurvePoint, smoothed } from '../smoothed.js';
import type { DoneRun, Study } from '../study.js';
import { budgetName, percent, signedLoss, significant } from '../words.js';
import { type DataTable, draw, type Figure, type MissingFigure, ofRun, seriesClass } from './figure.js';
import type { Style } from './style.js';

type Styles = ReadonlyMap<string, Style>;

/** Figure 3, middle. */
export function learningCurvesFigure({ budgets }: Study, styles: Styles): Figure | MissingFigure {
  const title = 'Learning curves';
  const paper = 'figure 3, middle';
  const budget = shownBudget(budgets);
  const curves = (budget === null ? [] : chosenModels(budget)).flatMap((model) => {
    const points = smoothed(model.run, ({ loss }) => loss);
    return points.length === 0 ? [] : [{ ...model, points }];
  });
  if (budget === null || curves.length === 0)
    return { title, paper, needs: 'Needs the steps.csv of finished runs.' };
  const values = curves.flatMap(({ points }) => points.map(({ y }) => y));
  // The first fifth of training would take up most of the height.
  const top = Math.max(...curves.map(({ points }) => lossAt(points, 0.2)));
  /** Whether an earlier curve has the same style: then this one has another dash. */
  const sharesColor = (run: DoneRun) =>
    curves.find((other) => other.run.setting.shortLabel === run.setting.shortLabel)?.run !== run;
  const dashOf = (run: DoneRun) => (sharesColor(run) ? '3,3' : (styles.get(run.setting.key) as Style).dash);
  const svg = draw({
    title,
    description: `Training loss in nats per token against training FLOPs, smoothed, at ${budgetName(budget.budget)} FLOPs.`,
    legend: curves.map(({ role, run }) => ({
      label: `${role}: ${modelName(run)}`,
      color: colorOf(run, styles),
      dash: dashOf(run),
      series: `${role}: ${modelName(run)}`,
    })),
    plot: {
      x: { label: 'training FLOPs', tickFormat: flopsTick, ticks: 5 },
      y: {
        label: 'training loss, nats per token',
        grid: true,
        domain: [Math.min(...values), top],
      },
      marks: curves.flatMap(({ points, run, role }) =>
        lineMarks(
          points,
          {
            stroke: colorOf(run, styles),
            dash: dashOf(run),
            className: seriesClass(`${role}: ${modelName(run)}`),
          },
          ({ flops, y }) =>
            ofRun(
              run.row.run_id,
              `${role}\n${modelName(run)}\nafter ${significant(flops)} FLOPs: loss ${y.toFixed(4)}`,
            ),
        ),
      ),
    },
  });
  const table = curveTable(curves, 'training loss');
  return { id: 'learning-curves', title, paper, reading: learningReading(curves), svg, table, wide: false };
}

function learningReading(curves: (ChosenModel & { points: CurvePoint[] })[]): string {
  const [dense, other] = curves;
  if (dense === undefined || other === undefined) return 'The training loss of the best model.';
  const gap = (share: number) => signedLoss(lossAt(other.points, share) - lossAt(dense.points, share));
  return `Halfway through its FLOPs the ${other.role} model is at ${gap(0.5)} nats (loss of the ${other.role} model minus that of the ${dense.role} one), at the end at ${gap(1)}, by the smoothed training loss.`;
}

/** The loss at the first point at or after a share of training, or at the last point. */
function lossAt(points: readonly CurvePoint[], share: number): number {
  return (points.find((point) => point.share >= share) ?? (points.at(-1) as CurvePoint)).y;
}

/** Figure 6, right. */
export function predictorFigure({ budgets }: Study, styles: Styles): Figure | MissingFigure {
  const title = 'The predictor learns to agree with the router';
  const paper = 'figure 6, right';
  const budget = shownBudget(budgets);
  const settings = budget === null ? [] : modAlike(budget);
  const curves = settings.flatMap(({ best }) => {
    const points = smoothed(best, ({ predictor_accuracy }) => predictor_accuracy);
    const role = best.setting.name;
    return points.length === 0 ? [] : [{ run: best, role, points }];
  });
  const [first] = curves;
  if (first === undefined) return { title, paper, needs: 'Needs MoD runs with a predictor.' };
  const reached = accuracyReached(first.run);
  const last = first.points.at(-1)?.y as number;
  const reading =
    reached === null
      ? `${modelName(first.run)} ends at an agreement of ${percent(last)}; 97% is not reached.`
      : `${modelName(first.run)} agrees in 97% after ${percent(reached)} of its training, and ends at ${percent(last)}.`;
  const lowest = Math.min(0.9, ...curves.flatMap(({ points }) => points.slice(2).map(({ y }) => y)));
  const svg = draw({
    title,
    description:
      'Share of tokens in which the predictor agrees with top-k, in training, against the share of training done.',
    legend: curves.map(({ run, role }) => ({
      label: role,
      series: role,
      color: colorOf(run, styles),
      dash: (styles.get(run.setting.key) as Style).dash,
    })),
    plot: {
      x: { label: 'share of training', tickFormat: '%', ticks: 5 },
      y: {
        label: 'agreement with the router',
        grid: true,
        tickFormat: '%',
        domain: [Math.max(0.5, lowest), 1],
      },
      marks: [
        Plot.ruleY([GOOD_ACCURACY], { strokeDasharray: '4,3', strokeOpacity: 0.6 }),
        ...curves.flatMap(({ points, run, role }) =>
          lineMarks(
            points.map((point) => ({ ...point, flops: point.share })),
            {
              stroke: colorOf(run, styles),
              dash: (styles.get(run.setting.key) as Style).dash,
              className: seriesClass(role),
            },
            ({ share, y }) =>
              ofRun(run.row.run_id, `${modelName(run)}\n${percent(share)} of training: ${percent(y)}`),
          ),
        ),
      ],
    },
  });
  return { id: 'predictor', title, paper, reading, svg, table: curveTable(curves, 'agreement'), wide: false };
}

function lineMarks(
  points: CurvePoint[],
  { stroke, dash, className }: { stroke: string; dash: string; className: string },
  title: (point: CurvePoint) => string,
): Plot.Markish[] {
  return [
    Plot.line(points, {
      x: 'flops',
      y: 'y',
      stroke,
      strokeWidth: 1.75,
      clip: true,
      className,
      ...(dash === '' ? {} : { strokeDasharray: dash }),
    }),
    // Invisible points for the tooltips.
    Plot.dot(everyFew(points), {
      x: 'flops',
      y: 'y',
      r: 5,
      fill: stroke,
      fillOpacity: 0,
      title,
      clip: true,
      className,
    }),
  ];
}

function curveTable(curves: { run: DoneRun; points: CurvePoint[] }[], name: string): DataTable {
  return {
    head: ['run', 'share of training', name],
    rows: curves.flatMap(({ run, points }) =>
      everyFew(points).map(({ share, y }) => [run.row.run_id, share, y]),
    ),
  };
}

/** At most 20 points, evenly spaced. */
function everyFew(points: readonly CurvePoint[]): CurvePoint[] {
  const every = Math.ceil(points.length / 20);
  return points.filter((_, i) => i % every === every - 1);
}

const colorOf = ({ setting }: DoneRun, styles: Styles) => (styles.get(setting.key) as Style).color;
/** 6000000000000000000 → 6e18. */
const flopsTick = (value: number) => (value === 0 ? '0' : budgetName(value));
