/** The page's table of all runs, finished or not, and their learning curves as data for the page's script. */
import { relative, sep } from 'node:path';
import type { LoadedRun } from '../../results/load.js';
import { equalParts } from '../../results/thin.js';
import { mean } from '../../statistics.js';
import { type Cell, escapeXml } from '../figures/figure.js';
import { bitsPerByte } from '../nats.js';
import { modelName, settingsOf } from '../settings.js';
import { budgetName } from '../words.js';
import { cellText } from './html.js';

/** The columns after the name. One whose cells are all equal is not shown: its value is stated once. */
const COLUMNS: Record<string, (run: LoadedRun) => Cell> = {
  sweep: ({ sweep }) => sweep,
  status: ({ row }) => row.status,
  budget: ({ row }) => budgetName(row.flop_budget),
  seed: ({ row }) => row.seed,
  loss: ({ row }) => row.loss,
  'bits per byte': ({ row, spec }) => bitsPerByte(row.loss, spec),
  parameters: ({ row }) => row.params_total,
  'FLOPs per pass': ({ row }) => row.flops_per_pass,
  width: ({ row }) => row.d_model,
  layers: ({ row }) => row.n_layers,
  heads: ({ row }) => row.n_heads,
  capacity: ({ row }) => row.capacity,
  'routing frequency': ({ row }) => row.routing_frequency,
  router: ({ row }) => row.router,
  gate: ({ row }) => row.gate,
  'learning rate': ({ spec }) => spec.training.learning_rate,
  steps: ({ row }) => row.steps,
  'sequences a step': ({ row }) => row.batch_sequences,
  'sequence length': ({ row }) => row.sequence_length,
  'step, ms': ({ row }) => row.step_ms,
  'time, s': ({ row }) => row.wall_s,
  backend: ({ row }) => row.backend,
  device: ({ row }) => row.device,
  precision: ({ row }) => row.precision,
};
/** Columns that are shown at first if they differ; the others can be chosen. */
const FIRST = [
  'sweep',
  'status',
  'budget',
  'seed',
  'loss',
  'bits per byte',
  'parameters',
  'learning rate',
  'step, ms',
];

/** The section's HTML. */
export function runsSection(runs: readonly LoadedRun[], folder: string): string {
  if (runs.length === 0) return '<p>None.</p>';
  const settings = settingsOf(runs.map(({ spec }) => spec));
  const all = Object.entries(COLUMNS).map(([name, of]) => ({ name, cells: runs.map(of) }));
  const differing = all.filter(({ cells }) => new Set(cells).size > 1);
  const shared = all.flatMap(({ name, cells: [value = null], cells }) =>
    new Set(cells).size === 1 && value !== null ? [`${name} ${cellText(value)}`] : [],
  );
  const kind = differing.map(({ name, cells }) =>
    [
      ...(cells.some((cell) => typeof cell === 'number') ? ['n'] : []),
      ...(FIRST.includes(name) ? [] : ['x']),
    ].join(' '),
  );
  const attribute = (i: number) => (kind[i] === '' ? '' : ` class="${kind[i]}"`);
  const head = [
    '<th scope="col">run</th>',
    ...differing.map(({ name }, i) => `<th scope="col"${attribute(i)}>${escapeXml(name)}</th>`),
  ];
  const rows = runs.map((run, j) => {
    const { run_id } = run.row;
    const name = escapeXml(modelName({ setting: settings[j] as (typeof settings)[number], row: run.row }));
    const link =
      run.folder === undefined
        ? name
        : `<a href="${escapeXml(url(relative(folder, run.folder)))}/">${name}</a>`;
    const cells = differing.map(
      ({ cells }, i) => `<td${attribute(i)}>${escapeXml(cellText(cells[j] ?? null))}`,
    );
    const training = run.row.status === 'running' ? ' class="running"' : '';
    return `<tr data-run="${escapeXml(run_id)}"${training}><td>${link}${cells.join('')}`;
  });
  const same = shared.length === 0 ? '' : `<p class="quiet">All runs: ${escapeXml(shared.join(', '))}.</p>`;
  return `${same}<div id="curves"></div><div class="scroll tall" tabindex="0" role="region" aria-label="All runs"><table id="all-runs"><thead><tr>${head.join('')}</tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}

const url = (path: string) => path.split(sep).map(encodeURIComponent).join('/');

/** The number of points of a curve in the page's data. */
const POINTS = 24;

/** For each run with steps: its smoothed training losses at equal distances, and the share of training at the last one. */
export function curvesData(
  runs: readonly LoadedRun[],
): Record<string, { end: number; flops: number; y: number[] }> {
  const curves = runs.flatMap(({ row, steps }) => {
    const known =
      row.status === 'pending' || row.status === 'skipped'
        ? []
        : steps().filter(({ loss }) => Number.isFinite(loss));
    const parts = equalParts(known, POINTS);
    const last = known.at(-1);
    if (last === undefined || parts.length < 2) return [];
    const y = parts.map((part) => Number(mean(part.map(({ loss }) => loss)).toFixed(4)));
    return [
      [
        row.run_id,
        { end: Number((last.step / row.steps).toFixed(3)), flops: Number(row.train_flops.toPrecision(4)), y },
      ] as const,
    ];
  });
  return Object.fromEntries(curves);
}
