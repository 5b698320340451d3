/** `mod status`: the progress of a sweep's runs, from its files and, if it was submitted, from Slurm. */
import { setTimeout as sleep } from 'node:timers/promises';
import { count, duration, rate, table } from '../format.js';
import { findSweep, isSweeping, readPlan } from '../results/sweep-folder.js';
import { refreshTables } from '../results/tables.js';
import type { Task } from '../slurm/queue.js';
import { type ClusterProgress, clusterProgress, type QueuedProgress } from '../slurm/status.js';
import { isInProgress, type RunProgress, type SweepProgress, sweepProgress } from '../sweep/status.js';

export interface StatusCommandOptions {
  results: string;
  watch: boolean;
  json: boolean;
}

/** Milliseconds between two checks of --watch. */
const WATCH_INTERVAL = 2000;
/** Escape sequences: move the cursor to the upper left, clear the screen after it. */
const CLEAR = '\u001B[H\u001B[J';

/**
 * Prints the state of a sweep or of one run; with `watch` repeatedly, until no run is training.
 *
 * @throws InputError for an unknown target
 */
export async function statusCommand(
  target: string | undefined,
  { results, watch, json }: StatusCommandOptions,
  out: Pick<NodeJS.WriteStream, 'write' | 'isTTY'>,
): Promise<void> {
  const { sweepFolder, runId } = findSweep(target, results);
  for (;;) {
    const sweeping = isSweeping(sweepFolder); // read before the runs, so that the last output is the final state
    const { name, runs } = readPlan(sweepFolder);
    const selected = runs.filter(({ run_id }) => runId === null || run_id === runId);
    const files = sweepProgress(sweepFolder, selected);
    const progress = (await clusterProgress(sweepFolder, files)) ?? files;
    refreshTables(sweepFolder, runs);
    const text = json ? JSON.stringify(progress, null, watch ? undefined : 1) : report(name, progress);
    out.write(`${watch && out.isTTY && !json ? CLEAR : ''}${text}\n`);
    if (!watch || !isInProgress(progress.runs, sweeping)) return;
    await sleep(WATCH_INTERVAL);
  }
}

function report(name: string, progress: SweepProgress | ClusterProgress): string {
  const { runs, share, seconds_left } = progress;
  const head = ['run', 'status', 'step', 'of', 'done', 'loss', 'tok/s', 'left'];
  const onCluster = 'problem' in progress;
  const held = onCluster ? progress.runs.flatMap(({ task }) => (isHeld(task) ? [task.job] : [])) : [];
  const left = seconds_left === null ? '' : `, ${duration(seconds_left)} left`;
  const notes = runs.flatMap(({ run_id, note }) => (note === null ? [] : [`${run_id}: ${note}`]));
  return [
    `${name}: ${percent(share)} of the FLOPs done${left}`,
    onCluster
      ? table(
          [...head, 'slurm'],
          progress.runs.map((run) => [...cells(run), taskText(run.task)]),
        )
      : table(head, runs.map(cells)),
    ...(notes.length === 0 ? [] : [notes.join('\n')]),
    ...(held.length === 0 ? [] : [`Held by Slurm; to start them: scontrol release ${held.join(' ')}`]),
    ...(onCluster && progress.problem !== null
      ? [`From files only, since Slurm is not available: ${progress.problem}`]
      : []),
  ].join('\n\n');
}

function cells({
  run_id,
  status,
  step,
  steps,
  share,
  loss,
  tokens_per_s,
  seconds_left,
}: RunProgress | QueuedProgress): string[] {
  return [
    run_id,
    status,
    count(step),
    count(steps),
    percent(share),
    loss?.toFixed(4) ?? '-',
    tokens_per_s === null ? '-' : rate(tokens_per_s),
    seconds_left === null ? '-' : duration(seconds_left),
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

const percent = (share: number) => `${Math.floor(100 * share)}%`;
