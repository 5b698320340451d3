/** `mod sweep --slurm`: submits one task per run that is neither done nor queued, and the report that runs after them. */
import { resolve } from 'node:path';
import type { SweepFile } from '../config/sweep-file.js';
import { InputError, messageOf } from '../errors.js';
import { makeResultsFolder } from '../files/atomic.js';
import { acquireLock } from '../files/lock.js';
import type { PlannedRun } from '../plan/run.js';
import { largestFirst } from '../plan/shard.js';
import { planIn, sweepFiles, writePlan } from '../results/sweep-folder.js';
import type { RunEnd } from '../run/messages.js';
import { checkData, checkDisk, checkResults } from '../sweep/preflight.js';
import {
  changedText,
  divergedBefore,
  planSweep,
  runsToTrain,
  type SelectionOptions,
  selectRuns,
} from '../sweep/selection.js';
import { slurm } from './programs.js';
import { queuedTasks, type Task } from './queue.js';
import { arrayScript, jobName, reportScript } from './script.js';
import { readSubmissions, slurmFolder, writeSubmission } from './submission.js';

export interface SubmitOptions extends SelectionOptions {
  /** Options for sbatch, as on its command line. */
  sbatch: string;
  /** Maximum number of tasks that run at a time; undefined: no limit. */
  concurrency: number | undefined;
  /** The command that starts this program on every node, with absolute paths. */
  command: readonly string[];
}

export interface SubmitOutcome {
  folder: string;
  /** Id of the array; null if there was nothing to submit. */
  jobId: string | null;
  reportJobId: string | null;
  /** Runs submitted by this call, the most expensive first. */
  submitted: PlannedRun[];
  /** Tasks that were already queued or running. */
  active: Task[];
  done: number;
  /** Runs that diverged in earlier calls. */
  failed: RunEnd[];
}

/**
 * Submits the array and the report.
 *
 * @throws InputError for missing data, a config that has changed since its task was queued, options that sbatch rejects, or
 *   if Slurm is not installed
 * @throws TryLaterError if another process holds the sweep's lock, or Slurm's controller does not answer
 */
export async function submitSweep(file: SweepFile, options: SubmitOptions): Promise<SubmitOutcome> {
  const { folder, plan, selected, notDone } = prepareSubmission(file, options);
  await checkData(notDone, file.dir);
  makeResultsFolder(folder);
  const lock = acquireLock(sweepFiles(folder).lock, `mod sweep ${file.path} --slurm`);
  try {
    const active = await activeTasks(file, folder, plan);
    const todo = notQueued(notDone, active);
    const common = {
      folder,
      active,
      done: selected.length - notDone.length,
      failed: divergedBefore(folder, selected),
    };
    if (todo.length === 0) return { ...common, jobId: null, reportJobId: null, submitted: [] };
    checkDisk(folder, todo, options.concurrency ?? todo.length);
    writePlan(folder, planIn(folder, file, plan));
    makeResultsFolder(slurmFolder(folder)); // Slurm writes the logs there, but does not create the folder
    const scripts = scriptsOf(file, folder, todo, options);
    const jobId = await sbatch(scripts.array, []);
    const runs = todo.map(({ run_id, config_hash }) => ({ run_id, config_hash }));
    writeSubmission(folder, { job_id: jobId, job_name: jobName(file.name), runs });
    const arrays = new Set([jobId, ...active.map(({ job }) => job.split('_')[0] as string)]);
    const reportJobId = await submitReport(scripts.report, [...arrays], folder);
    return { ...common, jobId, reportJobId, submitted: todo };
  } finally {
    lock.release();
  }
}

/**
 * The scripts that submitSweep would submit. Writes nothing; queries Slurm only if there are earlier submissions.
 *
 * @throws InputError like submitSweep, except for missing data
 */
export async function drySubmit(file: SweepFile, options: SubmitOptions): Promise<string> {
  const { folder, plan, notDone } = prepareSubmission(file, options);
  const todo = notQueued(notDone, await activeTasks(file, folder, plan));
  if (todo.length === 0) return '# nothing to submit: every run is done, queued or running\n';
  const { array, report } = scriptsOf(file, folder, todo, options);
  return `${array}\n# Then, with --dependency=afterany: and the array's job id:\n\n${report}`;
}

/** The plan, the selected runs, and those of them that are not done, without querying Slurm. */
function prepareSubmission(file: SweepFile, options: SubmitOptions) {
  checkSbatch(options.sbatch);
  const folder = resolve(options.resultsDir, file.name);
  const plan = planSweep(file, options);
  const selected = selectRuns(file, folder, plan, options);
  checkResults(folder, plan, file.dir, options.retry);
  return { folder, plan, selected, notDone: runsToTrain(folder, selected, options.retry) };
}

/** Rejects line breaks: they would end the #SBATCH comment and start a command. */
function checkSbatch(options: string): void {
  if (/[\r\n]/.test(options))
    throw new InputError('--sbatch: expected a single line, such as "--partition=gpu"');
}

/** The runs without an active task, the most expensive first: Slurm starts the tasks of an array in order. */
function notQueued(runs: readonly PlannedRun[], active: readonly Task[]): PlannedRun[] {
  const queued = new Set(active.map(({ run_id }) => run_id));
  return largestFirst(runs.filter(({ run_id }) => !queued.has(run_id)));
}

/**
 * Tasks of this sweep that are queued or running.
 *
 * @throws InputError if the config of a task's run has changed since it was submitted
 */
async function activeTasks(file: SweepFile, folder: string, plan: readonly PlannedRun[]): Promise<Task[]> {
  const submissions = readSubmissions(folder);
  if (submissions.length === 0) return [];
  const active = (await queuedTasks(submissions)).filter((task) => task.active);
  const hashes = new Map(plan.map(({ run_id, config_hash }) => [run_id, config_hash]));
  const stale = active.filter(({ run_id, config_hash }) => hashes.get(run_id) !== config_hash);
  if (stale.length > 0) {
    const changes = stale.map(({ run_id, job }) => `${run_id}, task ${job}`);
    throw new InputError(changedText(file.path, changes, `scancel ${stale.map(({ job }) => job).join(' ')}`));
  }
  return active;
}

function scriptsOf(
  file: SweepFile,
  folder: string,
  runs: readonly PlannedRun[],
  { resultsDir, command, sbatch, concurrency, backend, precision, retry }: SubmitOptions,
): { array: string; report: string } {
  const common = {
    name: file.name,
    config: resolve(file.path),
    resultsDir: resolve(resultsDir),
    folder,
    command,
    sbatch,
  };
  const flags = [
    ...file.settings.flatMap((setting) => ['--set', setting]),
    ...(backend === 'auto' ? [] : ['--backend', backend]),
    ...(precision === 'auto' ? [] : ['--precision', precision]),
    ...(retry ? ['--retry'] : []),
  ];
  return {
    array: arrayScript({ ...common, runs, concurrency, flags }),
    report: reportScript(common),
  };
}

/** @returns the job's id */
async function sbatch(script: string, args: readonly string[]): Promise<string> {
  const { stdout, error } = await slurm('sbatch', ['--parsable', ...args], script);
  if (error !== '') {
    throw new InputError(
      `sbatch rejected the job: ${error.replaceAll('\n', '; ')}. Nothing was submitted: correct --sbatch; --dry-run prints the script`,
    );
  }
  return stdout.trim().split(';')[0] as string; // the cluster's name may follow after a semicolon
}

async function submitReport(script: string, arrays: readonly string[], folder: string): Promise<string> {
  try {
    return await sbatch(script, [`--dependency=afterany:${arrays.join(':')}`]);
  } catch (error) {
    throw new Error(
      `the runs were submitted as job ${arrays[0]}, but not their report: ${messageOf(error)}. When they are done, run mod report ${folder}`,
    );
  }
}
