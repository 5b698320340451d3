/** `mod sweep --slurm`: submits one task per run that is neither done nor queued, in one or more job arrays, and the report that runs after them. */
import { resolve } from 'node:path';
import type { SweepFile } from '../config/sweep-file.js';
import { InputError, messageOf, TryLaterError } from '../errors.js';
import { makeResultsFolder } from '../files/atomic.js';
import { acquireLock } from '../files/lock.js';
import type { PlannedRun } from '../plan/run.js';
import { largestFirst } from '../plan/shard.js';
import { planIn, sweepFiles, writeDataWarnings, writePlan } from '../results/sweep-folder.js';
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
import { chunksOf, tasksPerArray } from './arrays.js';
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
  /** Ids of the arrays; none if there was nothing to submit. */
  jobIds: string[];
  reportJobId: string | null;
  /** Runs submitted by this call, the most expensive first. */
  submitted: PlannedRun[];
  /** Tasks that were already queued or running. */
  active: Task[];
  done: number;
  /** About the held-out data. */
  warnings: string[];
  /** Runs that diverged in earlier calls. */
  failed: RunEnd[];
}

/**
 * Submits the arrays and the report. With `concurrency`, an array starts when the one before has ended: Slurm limits the
 * tasks of each by itself.
 *
 * @throws InputError for missing data, a config that has changed since its task was queued, options that sbatch rejects, or
 *   if Slurm is not installed
 * @throws TryLaterError if another process holds the sweep's lock, Slurm's controller does not answer, or only some of the
 *   arrays were accepted
 */
export async function submitSweep(file: SweepFile, options: SubmitOptions): Promise<SubmitOutcome> {
  const { folder, plan, selected, notDone } = prepareSubmission(file, options);
  const warnings = await checkData(notDone, file.dir);
  makeResultsFolder(folder);
  const lock = acquireLock(sweepFiles(folder).lock, `mod sweep ${file.path} --slurm`);
  try {
    const active = await activeTasks(file, folder, plan);
    const todo = notQueued(notDone, active);
    const common = {
      folder,
      active,
      warnings,
      done: selected.length - notDone.length,
      failed: divergedBefore(folder, selected),
    };
    if (todo.length === 0) return { ...common, jobIds: [], reportJobId: null, submitted: [] };
    checkDisk(folder, todo, options.concurrency ?? todo.length);
    writePlan(folder, planIn(folder, file, plan));
    writeDataWarnings(folder, warnings);
    makeResultsFolder(slurmFolder(folder)); // Slurm writes the logs there, but does not create the folder
    const scripts = scriptsOf(file, folder, chunksOf(todo, await tasksPerArray()), options);
    const { jobIds, submitted, rejected } = await submitArrays(file, folder, scripts.arrays, options);
    const arrays = new Set([...jobIds, ...active.map(({ job }) => job.split('_')[0] as string)]);
    const reportJobId = await submitReport(scripts.report, [...arrays], folder);
    if (rejected !== null) {
      throw new TryLaterError(
        `${submitted.length} of ${todo.length} runs were submitted, as job ${jobIds.join(', ')}; sbatch rejected the others: ${rejected}. Run the command again when there is room`,
      );
    }
    return { ...common, jobIds, reportJobId, submitted };
  } finally {
    lock.release();
  }
}

/** The script of an array and its runs. */
interface ArrayOfRuns {
  script: string;
  runs: readonly PlannedRun[];
}

/** Submits arrays until one is rejected, and records each: the first one's error is thrown, that of a later one returned. */
async function submitArrays(
  file: SweepFile,
  folder: string,
  arrays: readonly ArrayOfRuns[],
  { concurrency }: SubmitOptions,
): Promise<{ jobIds: string[]; submitted: PlannedRun[]; rejected: string | null }> {
  const jobIds: string[] = [];
  const submitted: PlannedRun[] = [];
  for (const { script, runs } of arrays) {
    const before = concurrency === undefined ? undefined : jobIds.at(-1);
    try {
      const jobId = await sbatch(script, before === undefined ? [] : [`--dependency=afterany:${before}`]);
      const recorded = runs.map(({ run_id, config_hash }) => ({ run_id, config_hash }));
      writeSubmission(folder, { job_id: jobId, job_name: jobName(file.name), runs: recorded });
      jobIds.push(jobId);
      submitted.push(...runs);
    } catch (error) {
      if (jobIds.length === 0 || !(error instanceof SbatchError)) throw error;
      return { jobIds, submitted, rejected: error.reason };
    }
  }
  return { jobIds, submitted, rejected: null };
}

/**
 * The scripts that submitSweep would submit. Writes nothing; queries Slurm for the size of arrays, if it is installed, and
 * for tasks if there are earlier submissions.
 *
 * @throws InputError like submitSweep, except for missing data
 */
export async function drySubmit(file: SweepFile, options: SubmitOptions): Promise<string> {
  const { folder, plan, notDone } = prepareSubmission(file, options);
  const todo = notQueued(notDone, await activeTasks(file, folder, plan));
  if (todo.length === 0) return '# nothing to submit: every run is done, queued or running\n';
  const { arrays, report } = scriptsOf(file, folder, chunksOf(todo, await tasksPerArray()), options);
  const next =
    options.concurrency === undefined
      ? '# Then:'
      : "# Then, with --dependency=afterany: and that array's job id:";
  const scripts = arrays.map(({ script }) => script).join(`\n${next}\n\n`);
  const ids = arrays.length === 1 ? "the array's job id" : 'the job ids of the arrays';
  return `${scripts}\n# Then, with --dependency=afterany: and ${ids}:\n\n${report}`;
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
  chunks: readonly (readonly PlannedRun[])[],
  { resultsDir, command, sbatch, concurrency, backend, precision, retry }: SubmitOptions,
): { arrays: ArrayOfRuns[]; report: string } {
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
    arrays: chunks.map((runs) => ({ runs, script: arrayScript({ ...common, runs, concurrency, flags }) })),
    report: reportScript(common),
  };
}

/** A job that sbatch rejects. */
class SbatchError extends InputError {
  constructor(readonly reason: string) {
    super(
      `sbatch rejected the job: ${reason}. Nothing was submitted: correct --sbatch; --dry-run prints the script`,
    );
  }
}

/** @returns the job's id @throws SbatchError */
async function sbatch(script: string, args: readonly string[]): Promise<string> {
  const { stdout, error } = await slurm('sbatch', ['--parsable', ...args], script);
  if (error !== '') throw new SbatchError(error.replaceAll('\n', '; '));
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
