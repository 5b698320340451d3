/** Models evaluated as in sampling: loss against FLOPs per pass (figure 6, left). */
import * as Plot from '@observablehq/plot';
import { CAUSAL_MODES, ROUTING_MODES, type RoutingMode } from '../../model/config.js';
import { shownBudget } from '../chosen.js';
import { type SampledSize, sampledRuns, sampledSizes } from '../claims/sampling.js';
import { modelName } from '../settings.js';
import type { DoneRun, Study } from '../study.js';
import { budgetName, signedLoss, significant } from '../words.js';
import {
  draw,
  type Figure,
  linearTicks,
  logTicks,
  lossFrame,
  type MarkSymbol,
  type MissingFigure,
  ofRun,
  stripMarks,
  withStrip,
} from './figure.js';
import { legendOf, type Style } from './style.js';

const MODES: Record<RoutingMode, { label: string; symbol: MarkSymbol }> = {
  topk: { label: 'top-k', symbol: 'circle' },
  predictor: { label: 'by the predictor', symbol: 'triangle' },
  threshold: { label: 'by threshold', symbol: 'diamond2' },
  quantile: { label: 'by the running quantile', symbol: 'square' },
};

interface SampledPoint {
  run: DoneRun;
  mode: RoutingMode;
  x: number;
  y: number;
}

/** Figure 6, left. */
export function samplingFigure(
  { budgets }: Study,
  styles: ReadonlyMap<string, Style>,
): Figure | MissingFigure {
  const title = 'Evaluated as in sampling';
  const paper = 'figure 6, left';
  const budget = shownBudget(budgets);
  const sampled = budget === null ? [] : sampledRuns(budget);
  if (budget === null || sampled.length === 0) {
    return {
      title,
      paper,
      needs: `Needs MoD runs evaluated by ${CAUSAL_MODES.join(' or ')}: mod eval --autoregressive.`,
    };
  }
  const causal = sampled.map(({ run, evaluation }): SampledPoint => {
    return { run, mode: evaluation.routing, x: evaluation.flops_per_pass, y: evaluation.loss };
  });
  const shown = new Set([...(budget.baseline?.runs ?? []), ...sampled.map(({ run }) => run)]);
  const topk = [...shown].map(
    (run): SampledPoint => ({ run, mode: 'topk', x: run.row.flops_per_pass, y: run.loss }),
  );
  const points = [...topk, ...causal];
  const frame = lossFrame(points.map(({ y }) => y));
  const [low, top] = frame.domain;
  const { domain, place } = withStrip(frame);
  const xs = points.map(({ x }) => x);
  const settings = [...new Map([...shown].map(({ setting }) => [setting.key, setting])).values()];
  const modes = ROUTING_MODES.filter((mode) => points.some((point) => point.mode === mode));
  const color = ({ setting }: DoneRun) => (styles.get(setting.key) as Style).color;
  const svg = draw({
    title,
    description: `Held-out loss against FLOPs per pass at ${budgetName(budget.budget)} FLOPs, one point per run and routing mode.`,
    legend: [
      ...legendOf(settings, styles).map(({ label, color: stroke }) => ({ label, color: stroke })),
      ...modes.map((mode) => ({ ...MODES[mode], color: 'currentColor' })),
    ],
    plot: {
      x: {
        type: 'log',
        label: 'FLOPs per pass',
        tickFormat: (value: number) => budgetName(value),
        ticks: logTicks(Math.min(...xs), Math.max(...xs), 5),
      },
      y: { label: 'held-out loss, nats per token', grid: true, domain, ticks: linearTicks(low, top) },
      marks: [
        ...stripMarks(frame),
        ...modes.map((mode) =>
          Plot.dot(
            points.filter((point) => point.mode === mode),
            {
              x: 'x',
              y: ({ y }: SampledPoint) => place(y),
              r: 4,
              symbol: MODES[mode].symbol,
              ...(mode === 'topk'
                ? { fill: ({ run }: SampledPoint) => color(run), fillOpacity: 0.45 }
                : { fill: ({ run }: SampledPoint) => color(run) }),
              title: ({ run, x, y }: SampledPoint) =>
                ofRun(
                  run.row.run_id,
                  `${modelName(run)}, ${MODES[mode].label}\n${budgetName(x)} FLOPs per pass\nloss ${y.toFixed(4)}`,
                ),
            },
          ),
        ),
      ],
    },
  });
  const head = ['run', 'routing', 'FLOPs per pass', 'loss'];
  const rows = points.map(({ run, mode, x, y }) => [run.row.run_id, mode, x, y]);
  const reading = samplingReading(sampledSizes(budget), budget.baseline?.best ?? null);
  return { id: 'sampling', title, paper, reading, svg, table: { head, rows }, wide: false };
}

function samplingReading(sizes: readonly SampledSize[], dense: DoneRun | null): string {
  const best = sizes.reduce((least, size) => (size.loss < least.loss ? size : least));
  if (dense === null)
    return `The lowest loss as in sampling is ${best.loss.toFixed(4)} nats, of ${modelName(best.run)}.`;
  return `As in sampling, ${modelName(best.run)} minus the best dense model is ${signedLoss(best.loss - dense.loss)} nats, with ${significant(best.flopsPerPass / dense.row.flops_per_pass)} of its FLOPs per pass.`;
}
