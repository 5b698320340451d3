/** The state of a sweep's tasks in Slurm: from squeue while it lists them, later from sacct if the cluster has accounting. */
import { InputError } from '../errors.js';
import { slurm } from './programs.js';
import type { Submission } from './submission.js';

/** A task of a job array, and the run that it was submitted for. */
export interface Task {
  run_id: string;
  config_hash: string;
  /** Job id in the notation of scancel: 12_3. */
  job: string;
  /** Slurm's state: PENDING, RUNNING, COMPLETED, ... */
  state: string;
  /** Whether it is queued or running. */
  active: boolean;
  /** The node where it runs or ran; null before its start. */
  node: string | null;
  /** Why it is waiting; null if it is not. */
  reason: string | null;
}

/** States of a job that has ended and is not queued again. */
const ENDED = new Set([
  'BOOT_FAIL',
  'CANCELLED',
  'COMPLETED',
  'DEADLINE',
  'FAILED',
  'NODE_FAIL',
  'OUT_OF_MEMORY',
  'PREEMPTED',
  'REVOKED',
  'TIMEOUT',
]);

/** Array job id, task index, state, node, reason. */
const SQUEUE_FORMAT = '%F|%K|%T|%N|%r';
const SACCT_FORMAT = 'JobID,State,NodeList';

/**
 * Tasks listed by squeue: queued, running, and for some minutes after their end.
 *
 * @throws InputError if Slurm is not installed, or squeue fails
 * @throws TryLaterError if the controller does not answer
 */
export async function queuedTasks(submissions: readonly Submission[]): Promise<Task[]> {
  const names = [...new Set(submissions.map(({ job_name }) => job_name))];
  const args = ['--noheader', '--array', '--states=all', `--name=${names}`, `--format=${SQUEUE_FORMAT}`];
  const { stdout, error } = await slurm('squeue', args);
  if (error !== '') throw new InputError(`squeue: ${error}`);
  return tasksOf(submissions, parseSqueue(stdout));
}

/** Ended tasks, from sacct; an empty list if the cluster has no accounting or sacct is not installed. */
export async function accountedTasks(submissions: readonly Submission[]): Promise<Task[]> {
  const jobs = submissions.map(({ job_id }) => job_id).join();
  const args = ['--noheader', '--parsable2', '--allocations', `--jobs=${jobs}`, `--format=${SACCT_FORMAT}`];
  try {
    const { stdout, error } = await slurm('sacct', args);
    return error === '' ? tasksOf(submissions, parseSacct(stdout)) : [];
  } catch {
    return [];
  }
}

interface TaskLine {
  job: string;
  index: number;
  state: string;
  node: string | null;
  reason: string | null;
}

/** 12|3|RUNNING|n1|None */
export function parseSqueue(stdout: string): TaskLine[] {
  return cellsByLine(stdout).flatMap(([job, index, state, node, reason]) => {
    if (job === undefined || !/^\d+$/.test(index ?? '') || state === undefined) return [];
    const waits = state === 'PENDING' && reason !== undefined && reason !== 'None';
    return [{ job, index: Number(index), state, node: node || null, reason: waits ? reason : null }];
  });
}

/** 12_3|CANCELLED by 1000|n1; skips tasks that never started, which are grouped as 12_[4-7]. */
export function parseSacct(stdout: string): TaskLine[] {
  return cellsByLine(stdout).flatMap(([id, stateText, node]) => {
    const [, job, index] = /^(\d+)_(\d+)$/.exec(id ?? '') ?? [];
    const state = stateText?.split(' ')[0];
    if (job === undefined || state === undefined) return [];
    const hasNode = node !== '' && node !== 'None assigned' && node !== undefined;
    return [{ job, index: Number(index), state, node: hasNode ? node : null, reason: null }];
  });
}

function cellsByLine(stdout: string): string[][] {
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('|').map((cell) => cell.trim()));
}

/** The tasks of the lines that belong to these arrays. */
function tasksOf(submissions: readonly Submission[], found: readonly TaskLine[]): Task[] {
  return found.flatMap(({ job, index, state, node, reason }) => {
    const run = submissions.find(({ job_id }) => job_id === job)?.runs[index];
    if (run === undefined) return [];
    return [{ ...run, job: `${job}_${index}`, state, active: !ENDED.has(state), node, reason }];
  });
}

/** The current task of each run: an active one before an ended one, then the newest. */
export function currentTasks(tasks: readonly Task[]): Map<string, Task> {
  const current = new Map<string, Task>();
  const arrayOf = ({ job }: Task) => Number.parseInt(job, 10);
  for (const task of tasks) {
    const other = current.get(task.run_id);
    const isCurrent =
      other === undefined || (task.active === other.active ? arrayOf(task) > arrayOf(other) : task.active);
    if (isCurrent) current.set(task.run_id, task);
  }
  return current;
}
