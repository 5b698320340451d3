/** Removes the weights of finished runs that a sweep file does not ask to keep. */
import { rmSync } from 'node:fs';
import { isLocked } from '../files/lock.js';
import type { PlannedRun } from '../plan/run.js';
import { readResult, runFiles } from '../results/run-folder.js';
import { runFolder } from '../results/sweep-folder.js';

/**
 * Looks at the runs that are done so far: the best of them may have to give way to a later one. A run whose process has
 * not ended yet is left to whoever waits for it. Several may call this at once, on several machines: what has to go stays
 * so, and who finds it gone has nothing to do.
 */
export function removeWeights(sweepFolder: string, plan: readonly PlannedRun[]): void {
  if (plan.every(({ checkpoint }) => checkpoint.keep_final === 'all')) return;
  const done = plan.flatMap((run) => {
    const folder = runFolder(sweepFolder, run.run_id);
    const result = readResult(folder);
    return result?.status === 'done' ? [{ run, folder, loss: result.loss ?? Number.POSITIVE_INFINITY }] : [];
  });
  for (const { run, folder, loss } of done) {
    const { keep_final } = run.checkpoint;
    const isBeaten = done.some((other) => isRival(run, other.run) && other.loss < loss);
    const goes = keep_final === 'none' || (keep_final === 'best' && isBeaten);
    if (goes && !isLocked(runFiles(folder).lock))
      rmSync(runFiles(folder).checkpoints, { recursive: true, force: true });
  }
}

function isRival(a: PlannedRun, b: PlannedRun): boolean {
  return a.spec.flop_budget === b.spec.flop_budget && a.spec.variant === b.spec.variant;
}
