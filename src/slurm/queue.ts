/** What Slurm knows of a sweep's tasks: from squeue while it remembers them, then from sacct where the cluster keeps accounts. */
import { InputError } from '../errors.js';
import { slurm } from './programs.js';
import type { Submission } from './submission.js';

/** A task of a job array, and what it was submitted for. */
export interface Task {
  run_id: string;
  config_hash: string;
  /** 12_3, as scancel takes it. */
  job: string;
  /** Slurm's word: PENDING, RUNNING, COMPLETED, ... */
  state: string;
  /** Whether it is queued or running: it will train its run, or does. */
  active: boolean;
  /** Where it runs or ran; null before. */
  node: string | null;
  /** Why it waits; null where it does not. */
  reason: string | null;
}

/** States of a job that has ended and will not be queued again. */
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

/** Of the array, the task's index, the state, the node, the reason. */
const SQUEUE_FORMAT = '%F|%K|%T|%N|%r';
const SACCT_FORMAT = 'JobID,State,NodeList';

/**
 * The tasks that squeue knows: those that are queued or running, and for some minutes those that have ended.
 *
 * @throws InputError where there is no Slurm, or squeue refuses
 * @throws TryLaterError where the controller does not answer
 */
export async function knownTasks(submissions: readonly Submission[]): Promise<Task[]> {
  const names = [...new Set(submissions.map(({ job_name }) => job_name))];
  const args = ['--noheader', '--array', '--states=all', `--name=${names}`, `--format=${SQUEUE_FORMAT}`];
  const { stdout, refusal } = await slurm('squeue', args);
  if (refusal !== '') throw new InputError(`squeue: ${refusal}`);
  return tasksOf(submissions, parseSqueue(stdout));
}

/** How tasks that squeue has forgotten ended; none where the cluster keeps no accounts, or sacct is not there. */
export async function endedTasks(submissions: readonly Submission[]): Promise<Task[]> {
  const jobs = submissions.map(({ job_id }) => job_id).join();
  const args = ['--noheader', '--parsable2', '--allocations', `--jobs=${jobs}`, `--format=${SACCT_FORMAT}`];
  try {
    const { stdout, refusal } = await slurm('sacct', args);
    return refusal === '' ? tasksOf(submissions, parseSacct(stdout)) : [];
  } catch {
    return [];
  }
}

interface Line {
  job: string;
  index: number;
  state: string;
  node: string | null;
  reason: string | null;
}

/** 12|3|RUNNING|n1|None */
export function parseSqueue(printed: string): Line[] {
  return lines(printed).flatMap(([job, index, state, node, reason]) => {
    if (job === undefined || !/^\d+$/.test(index ?? '') || state === undefined) return [];
    const waits = state === 'PENDING' && reason !== undefined && reason !== 'None';
    return [{ job, index: Number(index), state, node: node || null, reason: waits ? reason : null }];
  });
}

/** 12_3|CANCELLED by 1000|n1; tasks that never started are together, as 12_[4-7], and have no end to tell of. */
export function parseSacct(printed: string): Line[] {
  return lines(printed).flatMap(([id, words, node]) => {
    const [, job, index] = /^(\d+)_(\d+)$/.exec(id ?? '') ?? [];
    const state = words?.split(' ')[0];
    if (job === undefined || state === undefined) return [];
    const known = node !== '' && node !== 'None assigned' && node !== undefined;
    return [{ job, index: Number(index), state, node: known ? node : null, reason: null }];
  });
}

function lines(printed: string): string[][] {
  return printed
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('|').map((cell) => cell.trim()));
}

/** The task of each line that is one of these arrays'. */
function tasksOf(submissions: readonly Submission[], found: readonly Line[]): Task[] {
  return found.flatMap(({ job, index, state, node, reason }) => {
    const run = submissions.find(({ job_id }) => job_id === job)?.runs[index];
    if (run === undefined) return [];
    return [{ ...run, job: `${job}_${index}`, state, active: !ENDED.has(state), node, reason }];
  });
}

/** For each run the task that counts: one that is active before any that has ended, of these the newest. */
export function currentTasks(tasks: readonly Task[]): Map<string, Task> {
  const current = new Map<string, Task>();
  const arrayOf = ({ job }: Task) => Number.parseInt(job, 10);
  for (const task of tasks) {
    const other = current.get(task.run_id);
    const counts =
      other === undefined || (task.active === other.active ? arrayOf(task) > arrayOf(other) : task.active);
    if (counts) current.set(task.run_id, task);
  }
  return current;
}
