/** The progress of a sweep's runs from their files, combined with the state of their tasks in Slurm. */
import { messageOf } from '../errors.js';
import type { RunStatus } from '../results/run-status.js';
import type { RunProgress, SweepProgress } from '../sweep/status.js';
import { accountedTasks, currentTasks, queuedTasks, type Task } from './queue.js';
import { readSubmissions } from './submission.js';

export interface QueuedProgress extends Omit<RunProgress, 'status'> {
  /** `queued`: its task is waiting to start, for the first time or again. */
  status: RunStatus | 'queued';
  /** Its current task; null if unknown. */
  task: Task | null;
}

export interface ClusterProgress extends Omit<SweepProgress, 'runs'> {
  runs: QueuedProgress[];
  /** Why Slurm is not available; null if it is. */
  problem: string | null;
}

/**
 * Adds the tasks of the sweep's submissions; null if it was never submitted. Without squeue the result comes from the
 * files only.
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
    tasks = await queuedTasks(submissions);
  } catch (error) {
    problem = messageOf(error);
  }
  const listed = new Set(tasks.map(({ run_id }) => run_id));
  const someUnlisted = progress.runs.some(({ run_id, status }) => status !== 'done' && !listed.has(run_id));
  if (someUnlisted && problem === null) tasks.push(...(await accountedTasks(submissions)));
  const current = currentTasks(tasks);
  const runs = progress.runs.map((run) => {
    const task = current.get(run.run_id) ?? null;
    return { ...run, status: statusOf(run.status, task), task };
  });
  return { ...progress, runs, problem };
}

/** The status in the files if the run is done or holds its lock; otherwise that of an active task, if there is one. */
function statusOf(status: RunStatus, task: Task | null): RunStatus | 'queued' {
  if (status === 'done' || status === 'running' || task === null || !task.active) return status;
  return task.state === 'RUNNING' ? 'running' : 'queued';
}
