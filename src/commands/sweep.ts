/** `mod sweep`: trains the runs of a sweep file that are not done, then prints a summary. */
import { loadSweepFile } from '../config/sweep-file.js';
import { rate, table } from '../format.js';
import { baselinesOf } from '../report/baseline.js';
import type { RunRow } from '../results/columns.js';
import { sweepFiles } from '../results/sweep-folder.js';
import { runOnFinish, summaryOf } from '../sweep/on-finish.js';
import { isPart } from '../sweep/selection.js';
import { type SweepOptions, type SweepOutcome, sweep } from '../sweep/sweep.js';

export type SweepCommandOptions = Omit<SweepOptions, 'baselineOf'>;

/** Prints the finished runs, unless quiet, and the failed runs on `err`. */
export async function sweepCommand(
  configPath: string,
  options: SweepCommandOptions,
  err: (text: string) => void,
): Promise<SweepOutcome> {
  const file = loadSweepFile(configPath);
  const outcome = await sweep(file, { ...options, baselineOf: baselinesOf(file, options.resultsDir) });
  const { folder, failed, unfinished, rows } = outcome;
  if (!options.quiet) {
    options.out.write(`\n${summary(rows)}\n\n${sweepFiles(folder).runs}\n`);
  }
  for (const { runId, status, note } of failed) err(`${runId}: ${status}: ${note}`);
  if (!options.quiet) for (const { runId, note } of unfinished) err(`${runId}: not done: ${note}`);
  if (callsOnFinish(outcome, options)) {
    const problem = await runOnFinish(file, summaryOf(file.name, outcome, rows));
    if (problem !== null) err(problem);
  }
  return outcome;
}

/** Whether to run `on_finish`: not if nothing was trained, for one of several parts, or after a signal. */
function callsOnFinish({ trained, stoppedBy }: SweepOutcome, options: SweepCommandOptions): boolean {
  return trained.length > 0 && !isPart(options) && (stoppedBy === null || stoppedBy === 'max-hours');
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
    row.loss?.toFixed(4) ?? '-',
  ]);
  return `${table(head, cells)}\n\n${tally(rows)}`;
}

/** 9 done, 1 skipped */
function tally(rows: RunRow[]): string {
  const counts = new Map<string, number>();
  for (const { status } of rows) counts.set(status, (counts.get(status) ?? 0) + 1);
  return [...counts].map(([status, count]) => `${count} ${status}`).join(', ');
}
