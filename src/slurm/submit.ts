/** `mod sweep --slurm`: submits a task for each run that is neither done nor queued, and the report behind them. */
import { resolve } from 'node:path';
import type { SweepFile } from '../config/sweep-file.js';
import { InputError, messageOf } from '../errors.js';
import { makeResultsFolder } from '../files/atomic.js';
import { acquireLock } from '../files/lock.js';
import type { PlannedRun } from '../plan/run.js';
import { largestFirst } from '../plan/shard.js';
import { sweepFiles, writePlan } from '../results/sweep-folder.js';
import type { RunEnd } from '../run/messages.js';
import { checkData, checkDisk, checkResults } from '../sweep/preflight.js';
import {
  changedText,
  divergedBefore,
  planSweep,
  type SelectionOptions,
  selectRuns,
  unfinished,
} from '../sweep/selection.js';
import { slurm } from './programs.js';
import { knownTasks, type Task } from './queue.js';
import { arrayScript, jobName, reportScript } from './script.js';
import { readSubmissions, slurmFolder, writeSubmission } from './submission.js';

export interface SubmitOptions extends SelectionOptions {
  /** Options for sbatch, as they would stand on its command line. */
  sbatch: string;
  /** Tasks that run at a time; undefined: as many as the cluster gives. */
  concurrency: number | undefined;
  /** Absolute: what starts this program on every node. */
  command: readonly string[];
}

export interface SubmitOutcome {
  folder: string;
  /** Of the array; null where nothing was to be submitted. */
  jobId: string | null;
  reportJobId: string | null;
  /** Runs that have been submitted now, the costliest first. */
  submitted: PlannedRun[];
  /** Tasks that were queued or running before. */
  active: Task[];
  done: number;
  /** Runs that diverged before: a person must look. */
  failed: RunEnd[];
}

/**
 * Submits the array and the report.
 *
 * @throws InputError for missing data, a config that has changed under queued tasks, options that sbatch refuses, or no Slurm
 * @throws TryLaterError if another process holds the sweep, or Slurm's controller does not answer
 */
export async function submitSweep(file: SweepFile, options: SubmitOptions): Promise<SubmitOutcome> {
  const { folder, plan, wanted, missing } = lookedAt(file, options);
  checkData(missing, file.dir);
  makeResultsFolder(folder);
  const lock = acquireLock(sweepFiles(folder).lock, `mod sweep ${file.path} --slurm`);
  try {
    const active = await activeTasks(file, folder, plan);
    const todo = notQueued(missing, active);
    const known = {
      folder,
      active,
      done: wanted.length - missing.length,
      failed: divergedBefore(folder, wanted),
    };
    if (todo.length === 0) return { ...known, jobId: null, reportJobId: null, submitted: [] };
    checkDisk(folder, todo, options.concurrency ?? todo.length);
    writePlan(folder, { name: file.name, base_dir: file.dir, runs: plan });
    makeResultsFolder(slurmFolder(folder)); // Slurm writes the logs there, and does not make it
    const scripts = scriptsOf(file, folder, todo, options);
    const jobId = await sbatch(scripts.array, []);
    const runs = todo.map(({ run_id, config_hash }) => ({ run_id, config_hash }));
    writeSubmission(folder, { job_id: jobId, job_name: jobName(file.name), runs });
    const arrays = new Set([jobId, ...active.map(({ job }) => job.split('_')[0] as string)]);
    const reportJobId = await submitReport(scripts.report, [...arrays], folder);
    return { ...known, jobId, reportJobId, submitted: todo };
  } finally {
    lock.release();
  }
}

/**
 * The scripts that would be submitted; nothing is written. Slurm is asked only where something was submitted before.
 *
 * @throws InputError as submitSweep does, but for the data
 */
export async function drySubmit(file: SweepFile, options: SubmitOptions): Promise<string> {
  const { folder, plan, missing } = lookedAt(file, options);
  const todo = notQueued(missing, await activeTasks(file, folder, plan));
  if (todo.length === 0) return '# nothing to submit: every run is done, queued or running\n';
  const { array, report } = scriptsOf(file, folder, todo, options);
  return `${array}\n# Then, with --dependency=afterany: and the array's job id:\n\n${report}`;
}

/** What a submission is about, before Slurm is asked: the plan, the runs wanted of it, and those that are not done. */
function lookedAt(file: SweepFile, options: SubmitOptions) {
  checkSbatch(options.sbatch);
  const folder = resolve(options.resultsDir, file.name);
  const plan = planSweep(file, options);
  const wanted = selectRuns(file, folder, plan, options);
  checkResults(folder, plan, file.dir, options.retry);
  return { folder, plan, wanted, missing: unfinished(folder, wanted, options.retry) };
}

/** A line break would end the comment that sbatch reads them from, and begin a command. */
function checkSbatch(options: string): void {
  if (/[\r\n]/.test(options)) throw new InputError('--sbatch: one line is needed, as in "--partition=gpu"');
}

/** The costliest first: Slurm starts the tasks of an array in their order. */
function notQueued(runs: readonly PlannedRun[], active: readonly Task[]): PlannedRun[] {
  const queued = new Set(active.map(({ run_id }) => run_id));
  return largestFirst(runs.filter(({ run_id }) => !queued.has(run_id)));
}

/**
 * What is queued or running of this sweep.
 *
 * @throws InputError where one of the tasks is for a run that the file no longer asks for as it was
 */
async function activeTasks(file: SweepFile, folder: string, plan: readonly PlannedRun[]): Promise<Task[]> {
  const submissions = readSubmissions(folder);
  if (submissions.length === 0) return [];
  const active = (await knownTasks(submissions)).filter((task) => task.active);
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
  const { stdout, refusal } = await slurm('sbatch', ['--parsable', ...args], script);
  if (refusal !== '') {
    throw new InputError(
      `sbatch refuses the job: ${refusal.replaceAll('\n', '; ')}. Nothing was submitted: correct --sbatch; with --dry-run the script is printed`,
    );
  }
  return stdout.trim().split(';')[0] as string; // behind a semicolon the cluster's name
}

async function submitReport(script: string, arrays: readonly string[], folder: string): Promise<string> {
  try {
    return await sbatch(script, [`--dependency=afterany:${arrays.join(':')}`]);
  } catch (error) {
    throw new Error(
      `the runs are queued as job ${arrays[0]}, their report is not: ${messageOf(error)}. Once they are done: mod report ${folder}`,
    );
  }
}
