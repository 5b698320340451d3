/** The text of `mod status`: a summary, counts by kind and budget, and the runs that fit the output. */
import { count, duration, elided, lossText, rate, table } from '../format.js';
import { VARIANTS } from '../model/variants.js';
import { budgetName, percent } from '../report/words.js';
import { RUN_STATUSES, type RunStatus } from '../results/run-status.js';
import type { Task } from '../slurm/queue.js';
import type { ClusterProgress, QueuedProgress } from '../slurm/status.js';
import type { RunProgress, SweepProgress } from '../sweep/status.js';
import { type Colour, type FittedColumn, fittedTable, type Terminal } from './terminal.js';

type Status = RunStatus | 'queued';
type Run = RunProgress | QueuedProgress;

/** The order of the counts, and of the runs when not all of them fit: what needs a person first. */
const STATUSES = {
  failed: 'red',
  diverged: 'red',
  'out-of-memory': 'red',
  interrupted: 'yellow',
  running: 'cyan',
  queued: 'dim',
  pending: 'dim',
  done: 'green',
  skipped: 'dim',
} as const satisfies Record<Status, Colour>;
const ORDER = Object.keys(STATUSES) as Status[];
const rank = ({ status }: Run) => ORDER.indexOf(status);

/** Whether a person must look at the run. */
export function hasFailed({ status }: { status: Status }): boolean {
  return status !== 'skipped' && status !== 'queued' && RUN_STATUSES[status].outcome === 'failed';
}

const descending = (value: (run: Run) => number | null) => (a: Run, b: Run) =>
  (value(b) ?? Number.NEGATIVE_INFINITY) - (value(a) ?? Number.NEGATIVE_INFINITY);
const ascending = (value: (run: Run) => number | null) => (a: Run, b: Run) =>
  (value(a) ?? Number.POSITIVE_INFINITY) - (value(b) ?? Number.POSITIVE_INFINITY);

/** Orders of the rows; `plan` is that of the sweep file. */
export const STATUS_ORDERS = {
  plan: () => 0,
  status: (a, b) => rank(a) - rank(b),
  loss: ascending(({ loss }) => loss),
  'train-loss': ascending(({ train_loss }) => train_loss),
  left: ascending(({ seconds_left }) => seconds_left),
  done: descending(({ share }) => share),
  budget: ascending(({ flop_budget }) => flop_budget),
} as const satisfies Record<string, (a: Run, b: Run) => number>;

export type StatusOrder = keyof typeof STATUS_ORDERS;

/** Which runs are listed, and in which order. The summary always counts all runs. */
export interface StatusSelection {
  /** Only failed, diverged and out-of-memory runs; with `running` both. */
  failed: boolean;
  running: boolean;
  /** Only runs whose id contains this text; empty: all. */
  filter: string;
  /** Undefined: the plan's order if all rows fit, else by status. */
  sort?: StatusOrder;
}

export interface StatusView {
  name: string;
  progress: SweepProgress | ClusterProgress;
  selection: StatusSelection;
  /** Run folders that the plan does not contain. */
  orphans: number;
  terminal: Terminal;
  /** Lines that the output may have. */
  lines: number;
}

/** One line: `quick: 45% of the FLOPs done, 1m50s left: 1 running, 4 done`. */
export function summaryLine(
  name: string,
  { runs, share, seconds_left }: SweepProgress | ClusterProgress,
): string {
  const left = seconds_left === null ? '' : `, ${duration(seconds_left)} left`;
  return `${name}: ${wholePercent(share)} of the FLOPs done${left}: ${countsText(runs)}`;
}

function countsText(
  runs: readonly Run[],
  paint: (status: Status, text: string) => string = (_, text) => text,
) {
  return ORDER.flatMap((status) => {
    const many = runs.filter((run) => run.status === status).length;
    return many === 0 ? [] : [paint(status, `${many} ${status}`)];
  }).join(', ');
}

/** The whole text, of at most `lines` lines where that is finite. */
export function statusText(view: StatusView): string {
  const { progress, terminal, name, orphans, lines } = view;
  const { runs, share, seconds_left } = progress;
  const left = seconds_left === null ? '' : `, ${duration(seconds_left)} left`;
  const head = [
    terminal.paint('bold', `${name}: ${wholePercent(share)} of the FLOPs done${left}`),
    countsText(runs, (status, text) => terminal.paint(STATUSES[status], text)),
  ];
  const foot = cutLines(footer(progress, orphans), Math.max(2, Math.floor(lines / 6)));
  const listed = selectedRuns<Run>(runs, view.selection);
  const isSelected = listed.length < runs.length;
  const groups = isSelected ? [] : groupLines(runs);
  // A blank line before each part; the table of runs has a header, and a line for those that do not fit.
  const room = lines - head.length - (foot.length === 0 ? 0 : foot.length + 1);
  const fits = (groups.length === 0 ? 0 : groups.length + 1) + listed.length + 2 <= room;
  const groupRoom = fits ? groups.length : Math.min(groups.length, Math.max(3, Math.floor(room / 2)));
  const rowRoom = Math.max(1, room - (groups.length === 0 ? 0 : groupRoom + 1) - 4);
  const ordered = inOrder(listed, view.selection.sort ?? (fits ? 'plan' : 'status'));
  const shown = fits ? ordered : ordered.slice(0, rowRoom);
  const hidden = ordered.slice(shown.length);
  return [
    head,
    cutLines(groups, groupRoom),
    shown.length === 0 ? [] : runLines(shown, progress, terminal),
    hidden.length === 0 ? [] : [`and ${hidden.length} more: ${countsText(hidden)} (--all, --filter TEXT)`],
    foot,
  ]
    .filter((part) => part.length > 0)
    .map((part) => part.map((line) => clipped(line, terminal)).join('\n'))
    .join('\n\n');
}

/** Lines without escape sequences are cut at the right edge, so that none takes two lines of the screen. */
function clipped(line: string, { columns }: Terminal): string {
  return line.includes('\u001B') || line.length <= columns ? line : elided(line, columns);
}

function cutLines(lines: string[], most: number): string[] {
  if (lines.length <= most) return lines;
  return [...lines.slice(0, most - 1), `and ${lines.length - most + 1} more`];
}

/** The runs of a selection, in the plan's order. */
export function selectedRuns<R extends Run>(
  runs: readonly R[],
  { failed, running, filter }: StatusSelection,
): R[] {
  return runs.filter((run) => {
    if (filter !== '' && !run.run_id.includes(filter)) return false;
    if (!failed && !running) return true;
    return (failed && hasFailed(run)) || (running && run.status === 'running');
  });
}

/** The runs in an order; equal ones in the plan's. */
export function inOrder<R extends Run>(runs: readonly R[], order: StatusOrder): R[] {
  return [...runs].sort(STATUS_ORDERS[order]);
}

/** Counts and best losses by kind and budget; none if all runs are of one kind and budget. */
function groupLines(runs: readonly Run[]): string[] {
  const groups = new Map<string, Run[]>();
  for (const run of runs) {
    const key = `${run.flop_budget} ${kindOf(run)}`;
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  if (groups.size < 2) return [];
  // The largest budget first: it decides.
  const sorted = [...groups.values()].sort(([a], [b]) => (b?.flop_budget ?? 0) - (a?.flop_budget ?? 0));
  const rows = sorted.map((group) => {
    const [first] = group as [Run];
    const number = (is: (run: Run) => boolean) => String(group.filter(is).length);
    const losses = group.flatMap(({ status, loss }) => (status === 'done' && loss !== null ? [loss] : []));
    return [
      kindOf(first),
      budgetName(first.flop_budget),
      String(group.length),
      number(({ status }) => status === 'done'),
      number(({ status }) => status === 'running'),
      number(hasFailed),
      losses.length === 0 ? '-' : lossText(Math.min(...losses)),
    ];
  });
  return table(['kind', 'budget', 'runs', 'done', 'running', 'failed', 'best loss'], rows).split('\n');
}

/** The variant with its capacity and routing frequency, without the size: `MoD 12.5%, f 2`. */
function kindOf({ variant, capacity, routing_frequency }: Run): string {
  const { label } = VARIANTS[variant];
  return capacity === null ? label : `${label} ${percent(capacity)}, f ${routing_frequency}`;
}

const COLUMNS: readonly FittedColumn<Run>[] = [
  { head: 'run', cell: ({ run_id }) => run_id, drop: 0 },
  { head: 'status', cell: ({ status }) => status, drop: 0 },
  { head: 'step', cell: ({ step }) => count(step), drop: 2 },
  { head: 'of', cell: ({ steps }) => count(steps), drop: 1 },
  { head: 'done', cell: ({ share }) => wholePercent(share), drop: 0 },
  { head: 'held-out', cell: ({ loss }) => lossText(loss), drop: 0 },
  { head: 'training', cell: ({ train_loss }) => lossText(train_loss), drop: 0 },
  {
    head: 'tok/s',
    cell: ({ tokens_per_s }) => (tokens_per_s === null ? '-' : rate(tokens_per_s)),
    drop: 3,
  },
  {
    head: 'left',
    cell: ({ seconds_left }) => (seconds_left === null ? '-' : duration(seconds_left)),
    drop: 0,
  },
];
function runLines(
  runs: readonly Run[],
  progress: SweepProgress | ClusterProgress,
  { columns, paint }: Terminal,
): string[] {
  const slurm: FittedColumn<Run>[] =
    'problem' in progress
      ? [{ head: 'slurm', cell: (run) => taskText('task' in run ? run.task : null), drop: 4 }]
      : [];
  return fittedTable([...COLUMNS, ...slurm], runs, columns, (text, y, x) =>
    x === 1 ? paint(STATUSES[(runs[y] as Run).status], text) : text,
  ).split('\n');
}

/** Notes of the runs, what to do about tasks that are held, and what the plan no longer contains. */
function footer(progress: SweepProgress | ClusterProgress, orphans: number): string[] {
  const { runs } = progress;
  const onCluster = 'problem' in progress;
  const held = onCluster ? progress.runs.flatMap(({ task }) => (isHeld(task) ? [task.job] : [])) : [];
  const notes = runs.flatMap(({ run_id, note }) => (note === null ? [] : [`${run_id}: ${note}`]));
  return [
    ...notes,
    ...(held.length === 0 ? [] : [`Held by Slurm; to start them: scontrol release ${held.join(' ')}`]),
    ...(onCluster && progress.problem !== null
      ? [`From files only, since Slurm is not available: ${progress.problem}`]
      : []),
    ...(orphans === 0
      ? []
      : [`Not shown, since the sweep file no longer contains them: ${orphans} (mod status --orphans)`]),
  ];
}

/** 12_3 PENDING (Priority), 12_4 RUNNING on n1 */
function taskText(task: Task | null): string {
  if (task === null) return '-';
  const { job, state, reason, node } = task;
  return `${job} ${state}${reason === null ? '' : ` (${reason})`}${node === null ? '' : ` on ${node}`}`;
}

/** JobHeldUser, JobHeldAdmin, launch failed requeued held: Slurm does not start the task until it is released. */
function isHeld(task: Task | null): task is Task {
  return task?.active === true && /held/i.test(task.reason ?? '');
}

const wholePercent = (share: number) => `${Math.floor(100 * share)}%`;
