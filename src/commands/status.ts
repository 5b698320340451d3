/** `mod status`: the runs of a sweep with what is done of each, from the files alone. */
import { setTimeout as sleep } from 'node:timers/promises';
import { count, duration, rate, table } from '../format.js';
import { findSweep, readPlan } from '../results/sweep-folder.js';
import { type RunProgress, type SweepProgress, sweepProgress } from '../sweep/status.js';

export interface StatusCommandOptions {
  results: string;
  watch: boolean;
  json: boolean;
}

/** Milliseconds between two looks of --watch. */
const WATCH_INTERVAL = 2000;
/** Cursor to the upper left, and everything behind it cleared. */
const CLEAR = '\u001B[H\u001B[J';

/**
 * Prints the state of a sweep or of one run; with `watch` again and again, while something trains.
 *
 * @throws InputError for a target that is none
 */
export async function statusCommand(
  target: string | undefined,
  { results, watch, json }: StatusCommandOptions,
  out: Pick<NodeJS.WriteStream, 'write' | 'isTTY'>,
): Promise<void> {
  const { sweepFolder, runId } = findSweep(target, results);
  for (;;) {
    const { name, runs } = readPlan(sweepFolder);
    const wanted = runs.filter(({ run_id }) => runId === null || run_id === runId);
    const progress = sweepProgress(sweepFolder, wanted);
    const text = json ? JSON.stringify(progress, null, watch ? undefined : 1) : report(name, progress);
    out.write(`${watch && out.isTTY && !json ? CLEAR : ''}${text}\n`);
    if (!watch || !progress.runs.some(({ status }) => status === 'running')) return;
    await sleep(WATCH_INTERVAL);
  }
}

function report(name: string, { runs, share, seconds_left }: SweepProgress): string {
  const head = ['run', 'status', 'step', 'of', 'done', 'loss', 'tok/s', 'left'];
  const left = seconds_left === null ? '' : `, ${duration(seconds_left)} left`;
  const notes = runs.flatMap(({ run_id, note }) => (note === null ? [] : [`${run_id}: ${note}`]));
  return [
    `${name}: ${percent(share)} of the FLOPs spent${left}`,
    table(head, runs.map(cells)),
    ...(notes.length === 0 ? [] : [notes.join('\n')]),
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
}: RunProgress): string[] {
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

const percent = (share: number) => `${Math.floor(100 * share)}%`;
