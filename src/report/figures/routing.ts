/** Routing decisions: tokens by blocks, router weights, routed blocks per token (figure 5). */
import * as Plot from '@observablehq/plot';
import type { Analysis, SequenceRouting } from '../../results/analysis.js';
import { shownBudget } from '../chosen.js';
import { modelName } from '../settings.js';
import type { DoneRun, Study } from '../study.js';
import { percent, significant } from '../words.js';
import { draw, type Figure, type MissingFigure } from './figure.js';
import type { Style } from './style.js';

type Styles = ReadonlyMap<string, Style>;
interface Analysed {
  run: DoneRun;
  analysis: Analysis;
}

const NEEDS = 'Needs mod analyze on a MoD run.';
/** Tokens shown; with more, a column would be thinner than a line. */
const SHOWN_TOKENS = 128;

/** The analysed run with the lowest loss at the budget that is shown, else at any budget. */
export function analysedRun({ budgets, done }: Study): Analysed | null {
  const shown = shownBudget(budgets)?.budget;
  const analysed = done.flatMap((run) => (run.analysis === null ? [] : [{ run, analysis: run.analysis }]));
  const [best] = analysed.sort(
    (a, b) =>
      Number(b.run.row.flop_budget === shown) - Number(a.run.row.flop_budget === shown) ||
      a.run.loss - b.run.loss,
  );
  return best ?? null;
}

/** Figure 5, left. */
export function heatmapFigure(study: Study, styles: Styles): Figure | MissingFigure {
  const title = 'Which tokens go through which routed block';
  const paper = 'figure 5, left';
  const found = analysedRun(study);
  const sequence = found?.analysis.heatmaps[0];
  if (found === null || sequence === undefined) return { title, paper, needs: NEEDS };
  const { run, analysis } = found;
  const cells = cellsOf(sequence, analysis.blocks);
  const color = (styles.get(run.setting.key) as Style).color;
  const tokens = Math.min(SHOWN_TOKENS, sequence.engaged[0]?.length ?? 0);
  const share = analysis.share_by_blocks_engaged;
  const svg = draw({
    title,
    description: `The first ${tokens} tokens of held-out sequence ${sequence.sequence}, one column each, by routed block, the first at the bottom; filled where the token is selected.`,
    legend: [{ label: 'selected', color, symbol: 'square' }],
    width: 940,
    height: 90 + 14 * analysis.blocks.length,
    plot: {
      x: { label: 'position in the sequence', domain: [0, tokens] },
      y: {
        label: 'routed block',
        domain: [-0.5, analysis.blocks.length - 0.5],
        ticks: analysis.blocks.map((_, i) => i),
        tickFormat: (i: number) => String(analysis.blocks[i] ?? ''),
        tickSize: 0,
      },
      marks: [
        Plot.rect(analysis.blocks, {
          x1: 0,
          x2: tokens,
          y1: (_, i) => i - 0.45,
          y2: (_, i) => i + 0.45,
          fill: 'currentColor',
          fillOpacity: 0.07,
        }),
        Plot.rect(cells, {
          x1: 'position',
          x2: ({ position }) => position + 1,
          y1: ({ row }) => row - 0.45,
          y2: ({ row }) => row + 0.45,
          insetRight: 0.5,
          fill: color,
          fillOpacity: 0.95,
          title: ({ position, block, token }) =>
            `token ${position}${token === null ? '' : ` '${token}'`}\nblock ${block}: selected`,
        }),
      ],
    },
  });
  const reading = `In ${modelName(run)} ${percent(share[0] ?? 0)} of the tokens bypass every routed block, and ${percent(share.at(-1) ?? 0)} go through all of its ${analysis.blocks.length}.`;
  const text = (position: number) => visible(sequence.tokens?.[position]);
  const head = ['position', 'token', ...analysis.blocks.map((block) => `block ${block}`)];
  const rows = Array.from({ length: tokens }, (_, position) => [
    position,
    text(position),
    ...sequence.engaged.map((row) => Number(row[position] === '1')),
  ]);
  return { id: 'routing', title, paper, reading, svg, table: { head, rows }, wide: true };
}

/** A token's text with characters that XML does not allow or that are invisible as escapes. */
function visible(token: string | undefined): string | null {
  return token === undefined
    ? null
    : JSON.stringify(token)
        .slice(1, -1)
        .replace(/[\ufffe\uffff]/g, '\ufffd');
}

/** The selected tokens. */
function cellsOf({ engaged, tokens }: SequenceRouting, blocks: readonly number[]) {
  return engaged.flatMap((row, i) =>
    [...row.slice(0, SHOWN_TOKENS)].flatMap((cell, position) =>
      cell === '1' ? [{ row: i, block: blocks[i], position, token: visible(tokens?.[position]) }] : [],
    ),
  );
}

/** Figure 5, right. */
export function routerWeightsFigure(study: Study, styles: Styles): Figure | MissingFigure {
  const title = 'Router weights';
  const paper = 'figure 5, right';
  const found = analysedRun(study);
  if (found === null) return { title, paper, needs: NEEDS };
  const { run, analysis } = found;
  const { edges, counts, engaged_counts } = analysis.router_weights;
  const sum = (rows: number[][], bin: number) => rows.reduce((total, row) => total + (row[bin] ?? 0), 0);
  const bins = edges.slice(0, -1).map((low, i) => {
    const [all, selected] = [sum(counts, i), sum(engaged_counts, i)];
    return { low, high: edges[i + 1] as number, selected, bypassing: all - selected };
  });
  const total = bins.reduce((all, { selected, bypassing }) => all + selected + bypassing, 0);
  const shares = bins.map((bin) => ({
    ...bin,
    selected: bin.selected / total,
    bypassing: bin.bypassing / total,
  }));
  const color = (styles.get(run.setting.key) as Style).color;
  const hover = ({ low, high, selected, bypassing }: (typeof shares)[number]) =>
    `r from ${significant(low)} to ${significant(high)}\n${percent(selected)} of tokens, selected\n${percent(bypassing)}, bypassing`;
  const svg = draw({
    title,
    description:
      'Share of tokens by router weight, over all routed blocks; selected tokens and tokens that bypass.',
    legend: [
      { label: 'selected', color, symbol: 'square' },
      { label: 'bypassing', color: '#9a9a9a', symbol: 'square' },
    ],
    plot: {
      x: { label: 'router weight r' },
      y: { label: 'share of tokens', grid: true, tickFormat: '%' },
      marks: [
        Plot.rectY(shares, {
          x1: 'low',
          x2: 'high',
          y1: 0,
          y2: 'selected',
          fill: color,
          insetRight: 0.5,
          title: hover,
        }),
        Plot.rectY(shares, {
          x1: 'low',
          x2: 'high',
          y1: 'selected',
          y2: ({ selected, bypassing }) => selected + bypassing,
          fill: '#9a9a9a',
          fillOpacity: 0.6,
          insetRight: 0.5,
          title: hover,
        }),
        Plot.ruleY([0]),
      ],
    },
  });
  const selectedShare = shares.reduce((all, { selected }) => all + selected, 0);
  // A bin that contains 0 counts with its part above 0.
  const positive = shares.reduce(
    (all, { low, high, selected: chosen, bypassing }) =>
      all + (chosen + bypassing) * Math.min(1, Math.max(0, high / (high - low))),
    0,
  );
  const reading = `About ${percent(positive)} of the router weights of ${modelName(run)} are positive, and ${percent(selectedShare)} of the tokens are selected.`;
  const rows = shares.map(({ low, high, selected, bypassing }) => [low, high, selected, bypassing]);
  const table = { head: ['from', 'to', 'selected', 'bypassing'], rows };
  return { id: 'router-weights', title, paper, reading, svg, table, wide: false };
}

/** In addition to figure 5: the number of routed blocks that a token goes through. */
export function engagementFigure(study: Study, styles: Styles): Figure | MissingFigure {
  const title = 'Blocks that a token goes through';
  const found = analysedRun(study);
  if (found === null) return { title, paper: null, needs: NEEDS };
  const { run, analysis } = found;
  const bars = analysis.share_by_blocks_engaged.map((share, selected) => ({ selected, share }));
  const svg = draw({
    title,
    description: 'Share of tokens by the number of routed blocks that they went through.',
    legend: [],
    plot: {
      x: {
        label: 'routed blocks gone through',
        type: 'band',
        ticks:
          bars.length > 24
            ? bars.map(({ selected }) => selected).filter((n) => n % 4 === 0)
            : bars.map(({ selected }) => selected),
      },
      y: { label: 'share of tokens', grid: true, tickFormat: '%' },
      marks: [
        Plot.barY(bars, {
          x: 'selected',
          y: 'share',
          fill: (styles.get(run.setting.key) as Style).color,
          fillOpacity: 0.85,
          title: ({ selected, share }) => `${selected} blocks: ${percent(share)} of tokens`,
        }),
        Plot.ruleY([0]),
      ],
    },
  });
  const correlation = analysis.correlations.find(
    (one) => one.with === 'entropy' && one.coefficient === 'spearman',
  );
  const follows =
    correlation?.r == null
      ? ''
      : `; their number and the entropy of the prediction have a rank correlation of ${significant(correlation.r)}`;
  const mean = bars.reduce((sum, { selected, share }) => sum + selected * share, 0);
  const reading = `A token of ${modelName(run)} goes through ${significant(mean)} of ${analysis.blocks.length} routed blocks on average${follows}.`;
  const rows = bars.map(({ selected, share }) => [selected, share]);
  return {
    id: 'engagement',
    title,
    paper: null,
    reading,
    svg,
    table: { head: ['blocks', 'share of tokens'], rows },
    wide: false,
  };
}
