/** `mod sweep`: trains the runs of a sweep file that are not done, then prints a summary. */
import { loadSweepFile, type SweepFile } from '../config/sweep-file.js';
import { firstOf, lossText, rate, table } from '../format.js';
import { baselinesOf } from '../report/baseline.js';
import type { RunRow } from '../results/columns.js';
import { hasEnded } from '../results/run-status.js';
import { orphanRuns, sweepFiles } from '../results/sweep-folder.js';
import type { RunEnd } from '../run/messages.js';
import { runOnFinish, summaryOf } from '../sweep/on-finish.js';
import { compareFailures } from '../sweep/reported.js';
import { isPart } from '../sweep/selection.js';
import { type SweepOptions, type SweepOutcome, sweep } from '../sweep/sweep.js';
import { leftOutText } from '../sweep/whole-runs.js';

export interface TrainSweepOptions extends Omit<SweepOptions, 'baselineOf'> {
  /** Settles the diverged runs: they no longer count as failures. */
  acceptDiverged: boolean;
}

export interface SweepCommandOptions extends TrainSweepOptions {
  /** `key=value` texts that replace values of the file. */
  set: readonly string[];
}

export async function sweepCommand(
  configPath: string,
  options: SweepCommandOptions,
  err: (text: string) => void,
): Promise<SweepOutcome> {
  return trainSweep(loadSweepFile(configPath, options.set), options, err);
}

/**
 * Trains a sweep. Prints the finished runs, unless quiet, and the failed runs on `err`: if quiet only those that no earlier
 * call has reported, since cron mails every line.
 */
export async function trainSweep(
  file: SweepFile,
  options: TrainSweepOptions,
  err: (text: string) => void,
): Promise<SweepOutcome> {
  const ended = await sweep(file, { ...options, baselineOf: baselinesOf(file, options.resultsDir) });
  const { folder, unfinished, trained, rows, selected } = ended;
  const { failed, unreported } = compareFailures(
    folder,
    selected,
    ended.failed,
    trained,
    options.acceptDiverged,
  );
  const outcome = { ...ended, failed };
  if (!options.quiet) {
    const orphans = orphanRuns(folder, rows);
    const gone = orphans.length === 0 ? '' : `\n\n${orphansText(file.path, orphans)}`;
    options.out.write(`\n${summary(rows)}${gone}\n\n${sweepFiles(folder).runs}\n${nextStep(file, rows)}\n`);
  }
  const reported = options.quiet ? unreported : failed;
  for (const { runId, status, note } of reported) err(`${runId}: ${status}: ${note}`);
  if (options.quiet && unreported.length > 0) err(mailSummary(file.name, folder, rows, failed));
  if (options.quiet) for (const line of ended.lostGpus) err(line); // else they are among the lines of progress
  if (!options.quiet) reportUnfinished(unfinished, err);
  if (callsOnFinish(outcome, options)) {
    const problem = await runOnFinish(file, summaryOf(file.name, outcome, rows));
    if (problem !== null) err(problem);
  }
  return outcome;
}

/** What to do after a sweep: what is left of it, else its report. */
function nextStep({ name, path }: SweepFile, rows: readonly RunRow[]): string {
  const left = rows.filter(({ status }) => status !== 'skipped' && !hasEnded(status)).length;
  const failed = rows.some(({ status }) => status === 'failed' || status === 'out-of-memory');
  if (failed)
    return `Next: mod status ${name} --failed says why runs failed; mod sweep ${path} tries them again`;
  if (left > 0)
    return `Next: mod sweep ${path} goes on with ${left === 1 ? 'the run that is left' : `the ${left} runs that are left`}`;
  return `Next: mod report ${name}`;
}

/** Prints the runs that were started and are not done, and those that were left out. */
function reportUnfinished(unfinished: readonly RunEnd[], err: (text: string) => void): void {
  const leftOut = unfinished.filter(({ status }) => status === 'pending');
  for (const end of unfinished) if (!leftOut.includes(end)) err(`${end.runId}: not done: ${end.note}`);
  if (leftOut.length > 0) err(leftOutText(leftOut));
}

/** Whether to run `on_finish`: not if nothing was trained, for one of several parts, or after a signal. */
function callsOnFinish({ trained, stoppedBy }: SweepOutcome, options: TrainSweepOptions): boolean {
  return trained.length > 0 && !isPart(options) && (stoppedBy === null || stoppedBy === 'max-hours');
}

/** Started runs that the sweep file no longer contains: they are in no table. */
function orphansText(configPath: string, orphans: readonly string[]): string {
  const what = orphans.length === 1 ? 'run is' : 'runs are';
  return `${orphans.length} ${what} no longer in ${configPath}, and in no table or report: ${firstOf(orphans).join(', ')}. Their folders are kept: mod status --orphans`;
}

/** The last line of a mail: the state of the sweep, and what to do. */
function mailSummary(name: string, folder: string, rows: RunRow[], failed: readonly RunEnd[]): string {
  const diverged = failed.some(({ status }) => status === 'diverged')
    ? '; diverged runs: mod sweep --retry trains them again, --accept-diverged settles them'
    : '';
  return `${name}: ${tally(rows)}; not reported again until something changes; details: mod status ${folder} --failed${diverged}`;
}

function summary(rows: RunRow[]): string {
  const done = rows.filter(({ status }) => status === 'done');
  const head = ['run', 'params', 'FLOPs/pass', 'vs dense', 'step ms', 'loss'];
  const cells = done.map((row) => [
    row.run_id,
    rate(row.params_total),
    row.flops_per_pass.toExponential(3),
    row.flops_per_pass_vs_dense.toFixed(3),
    row.step_ms?.toFixed(1) ?? '-',
    lossText(row.loss),
  ]);
  return `${table(head, cells)}\n\n${tally(rows)}`;
}

/** 9 done, 1 skipped */
function tally(rows: RunRow[]): string {
  const counts = new Map<string, number>();
  for (const { status } of rows) counts.set(status, (counts.get(status) ?? 0) + 1);
  return [...counts].map(([status, count]) => `${count} ${status}`).join(', ');
}
