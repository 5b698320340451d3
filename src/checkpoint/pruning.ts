/** Removes the checkpoints of finished runs that `checkpoint.keep_final` excludes. */
import { rmSync } from 'node:fs';
import type { KeepFinal } from '../config/checkpoint-policy.js';
import { isLocked } from '../files/lock.js';
import type { PlannedRun } from '../plan/run.js';
import { readResult, runFiles } from '../results/run-folder.js';
import { runFolder } from '../results/sweep-folder.js';

/**
 * Prunes the runs that are done so far; under `best` a later run may replace the best one. A run whose process has not
 * ended is left to the next call. Several processes on several machines may call this at once: the decision to remove a
 * checkpoint never changes, and removing it twice is harmless.
 */
export function pruneFinishedRuns(sweepFolder: string, plan: readonly PlannedRun[]): void {
  if (plan.every(({ checkpoint }) => checkpoint.keep_final === 'all')) return;
  const done = plan.flatMap((run) => {
    const folder = runFolder(sweepFolder, run.run_id);
    const result = readResult(folder);
    return result?.status === 'done' ? [{ run, folder, loss: result.loss ?? Number.POSITIVE_INFINITY }] : [];
  });
  for (const { run, folder, loss } of done) {
    const isBeaten = () => done.some((other) => isRival(run, other.run) && other.loss < loss);
    if (isRemoved(run.checkpoint.keep_final, isBeaten) && !isLocked(runFiles(folder).lock))
      rmSync(runFiles(folder).checkpoints, { recursive: true, force: true });
  }
}

function isRemoved(keep: KeepFinal, isBeaten: () => boolean): boolean {
  switch (keep) {
    case 'all':
      return false;
    case 'best':
      return isBeaten();
    case 'none':
      return true;
    default:
      return keep satisfies never;
  }
}

/** Whether two runs compete for `keep_final: best`. */
function isRival(a: PlannedRun, b: PlannedRun): boolean {
  return a.spec.flop_budget === b.spec.flop_budget && a.spec.variant === b.spec.variant;
}
