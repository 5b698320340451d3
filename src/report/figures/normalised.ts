/** Every run against its budget's optimal baseline, so that all budgets share one figure (figure 4, right). */
import * as Plot from '@observablehq/plot';
import { type DoneRun, meansOf, type Optimum, type Study } from '../study.js';
import { significant } from '../words.js';
import {
  draw,
  type Figure,
  linearTicks,
  logTicks,
  lossFrame,
  type MissingFigure,
  seriesClass,
  stripMarks,
  withStrip,
} from './figure.js';
import { isExpert, runTitle } from './isoflop.js';
import { legendOf, type Style } from './style.js';

/** Figure 4, right. */
export function normalisedFigure(
  { budgets }: Study,
  styles: ReadonlyMap<string, Style>,
): Figure | MissingFigure {
  const title = 'Against the isoFLOP-optimal baseline';
  const paper = 'figure 4, right';
  const curves = budgets.flatMap(({ baseline, alike }) =>
    baseline === null || baseline.optimum.from === 'run'
      ? []
      : alike.filter((curve) => !isExpert(curve)).map((curve) => ({ ...curve, base: baseline.optimum })),
  );
  const against = (run: DoneRun, base: Optimum) => ({
    run,
    x: run.row.flops_per_pass / base.flopsPerPass,
    y: run.loss / base.loss,
  });
  const points = curves.flatMap(({ runs, base }) => runs.map((run) => against(run, base)));
  const models = curves.flatMap(({ runs, base }) => meansOf(runs).map((model) => against(model, base)));
  if (points.length === 0) return { title, paper, needs: 'Needs a budget whose dense optimum is known.' };
  const better = models.filter(({ run, x, y }) => run.setting.variant === 'mod' && y <= 1 && x < 1);
  const cheapest = better.reduce((least, one) => Math.min(least, one.x), 1);
  const reading =
    better.length === 0
      ? 'No MoD model is as good as the optimal baseline at fewer FLOPs per pass.'
      : `${better.length === 1 ? '1 MoD model is' : `${better.length} MoD models are`} as good as the optimal baseline at fewer FLOPs per pass, seeds averaged, the cheapest at ${significant(cheapest)} of its FLOPs.`;
  const losses = (some: typeof points) => some.map(({ y }) => y);
  const frame = lossFrame(
    losses(points),
    losses(points.filter(({ run }) => run.setting.variant !== 'random')),
  );
  const [low, top] = frame.domain;
  const { domain, place } = withStrip(frame);
  const ratios = points.map(({ x }) => x);
  const settings = [...new Map(points.map(({ run }) => [run.setting.key, run.setting])).values()];
  const svg = draw({
    title,
    description:
      'Loss over that of the optimal baseline of the same budget, against FLOPs per pass over those of that baseline, one point per run.',
    legend: legendOf(settings, styles),
    plot: {
      x: {
        type: 'log',
        label: 'FLOPs per pass / optimal baseline’s',
        ticks: logTicks(Math.min(...ratios), Math.max(...ratios)),
        tickFormat: '~g',
      },
      y: { label: 'loss / optimal baseline’s', grid: true, domain, ticks: linearTicks(low, top) },
      marks: [
        ...stripMarks(frame),
        Plot.ruleX([1], { strokeOpacity: 0.35 }),
        Plot.ruleY([1], { strokeOpacity: 0.35 }),
        ...settings.map(({ key, shortLabel }) => {
          const { color, symbol } = styles.get(key) as Style;
          return Plot.dot(
            points.filter(({ run }) => run.setting.key === key),
            {
              x: 'x',
              y: ({ y }) => place(y),
              className: seriesClass(shortLabel),
              r: 4,
              fill: color,
              fillOpacity: 0.85,
              symbol,
              title: (point) =>
                `${runTitle(point.run)}\n${significant(point.x)} of the baseline’s FLOPs per pass\n${point.y.toFixed(4)} of its loss`,
            },
          );
        }),
      ],
    },
  });
  const rows = points.map(({ run, x, y }) => [run.row.run_id, run.setting.name, run.row.flop_budget, x, y]);
  const head = ['run', 'setting', 'budget', 'FLOPs per pass, normalised', 'loss, normalised'];
  return {
    id: 'normalised',
    title,
    paper,
    reading,
    svg,
    table: { head, rows },
    wide: false,
  };
}
