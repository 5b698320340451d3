/** `mod sweep --slurm`: submits the runs of a sweep file to Slurm, and prints what is queued. */
import { loadSweepFile } from '../config/sweep-file.js';
import { counted } from '../format.js';
import { baselinesOf } from '../report/baseline.js';
import type { RunEnd } from '../run/messages.js';
import { drySubmit, type SubmitOptions, type SubmitOutcome, submitSweep } from '../slurm/submit.js';

export interface SweepSlurmOptions extends Omit<SubmitOptions, 'baselineOf'> {
  /** Print the scripts, submit nothing. */
  dryRun: boolean;
  quiet: boolean;
  /** `key=value` texts that replace values of the file. */
  set: readonly string[];
}

/** Prints what was submitted, unless quiet, and the failed runs on `err`; returns the failed runs. */
export async function sweepSlurmCommand(
  configPath: string,
  { dryRun, quiet, set, ...options }: SweepSlurmOptions,
  out: (text: string) => void,
  err: (text: string) => void,
): Promise<{ failed: RunEnd[] }> {
  const file = loadSweepFile(configPath, set);
  const submission = { ...options, baselineOf: baselinesOf(file, options.resultsDir) };
  if (dryRun) {
    out((await drySubmit(file, submission)).trimEnd());
    return { failed: [] };
  }
  const outcome = await submitSweep(file, submission);
  if (!quiet) {
    for (const warning of outcome.warnings) out(`warning: ${warning}`);
    out(report(outcome));
  }
  for (const { runId, status, note } of outcome.failed) err(`${runId}: ${status}: ${note}`);
  return outcome;
}

function report({ folder, jobIds, reportJobId, submitted, active, done }: SubmitOutcome): string {
  const already = [
    ...(done === 0 ? [] : [`${done} done`]),
    ...(active.length === 0 ? [] : [`${active.length} queued or running`]),
  ].join(', ');
  if (jobIds.length === 0) return `nothing to submit: ${already || 'no runs left'}`;
  const before = already === '' ? '' : ` (${already} already)`;
  return [
    `job${jobIds.length === 1 ? '' : 's'} ${jobIds.join(', ')}: ${counted(submitted.length, 'run')}${before}; job ${reportJobId}: the report after them`,
    `progress: mod status ${folder}; cancel: scancel ${[...jobIds, reportJobId].join(' ')}`,
  ].join('\n');
}
