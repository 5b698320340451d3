/** The state of a sweep's runs in Slurm beside what their files tell. */
import { messageOf } from '../errors.js';
import type { RunStatus } from '../results/columns.js';
import type { RunProgress, SweepProgress } from '../sweep/status.js';
import { currentTasks, endedTasks, knownTasks, type Task } from './queue.js';
import { readSubmissions } from './submission.js';

export interface QueuedProgress extends Omit<RunProgress, 'status'> {
  /** `queued`: its task waits for its turn, for the first time or again. */
  status: RunStatus | 'queued';
  /** Its task, the one that counts; null where none is known. */
  task: Task | null;
}

export interface ClusterProgress extends Omit<SweepProgress, 'runs'> {
  runs: QueuedProgress[];
  /** Why Slurm could not be asked; null where it was. */
  problem: string | null;
}

/**
 * Adds the tasks of what was submitted; null where the sweep never was. Any source may be missing: without squeue the
 * files alone count.
 */
export async function clusterProgress(
  sweepFolder: string,
  progress: SweepProgress,
): Promise<ClusterProgress | null> {
  const submissions = readSubmissions(sweepFolder);
  if (submissions.length === 0) return null;
  let tasks: Task[] = [];
  let problem: string | null = null;
  try {
    tasks = await knownTasks(submissions);
  } catch (error) {
    problem = messageOf(error);
  }
  const known = new Set(tasks.map(({ run_id }) => run_id));
  const forgotten = progress.runs.some(({ run_id, status }) => status !== 'done' && !known.has(run_id));
  if (forgotten && problem === null) tasks.push(...(await endedTasks(submissions)));
  const current = currentTasks(tasks);
  const runs = progress.runs.map((run) => {
    const task = current.get(run.run_id) ?? null;
    return { ...run, status: statusOf(run.status, task), task };
  });
  return { ...progress, runs, problem };
}

/** A run that is done is so whatever Slurm says; one that trains holds its lock, wherever Slurm believes it to be. */
function statusOf(status: RunStatus, task: Task | null): RunStatus | 'queued' {
  if (status === 'done' || status === 'running' || task === null || !task.active) return status;
  return task.state === 'RUNNING' ? 'running' : 'queued';
}
