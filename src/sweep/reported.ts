/** Failures that earlier calls of a sweep have reported, and diverged runs that the user has accepted: .reported.json. */
import { join } from 'node:path';
import { isDiskFull } from '../files/atomic.js';
import { readJson, writeJsonIfChanged } from '../files/json.js';
import { lockTables } from '../results/sweep-folder.js';
import type { RunEnd } from '../run/messages.js';

interface Reported {
  status: string;
  note: string | null;
  /** The user has accepted that this run diverged: it no longer counts as a failure. */
  accepted: boolean;
}

export interface Failures {
  /** Failures that a person must look at, reported before or not: the sweep's exit code depends on them. */
  failed: RunEnd[];
  /** Those of them that no earlier call has reported in this form. */
  unreported: RunEnd[];
}

/**
 * Compares the failures of a call with those of earlier calls, and stores them. A failure is new if its run had none, if its
 * status or note has changed, or if the run was trained again and diverged again. Failures of other runs are kept: the call may
 * have trained a part of the sweep.
 *
 * @param selected the runs of the call; failures of those that did not fail again are forgotten
 * @param accept settles the diverged runs: they are not reported and do not count until they are trained again
 */
export function compareFailures(
  folder: string,
  selected: readonly string[],
  failed: readonly RunEnd[],
  trained: readonly RunEnd[],
  accept: boolean,
): Failures {
  const path = join(folder, '.reported.json');
  const lock = lockTables(folder, 'mod storing what it has reported');
  try {
    const before = (readJson(path) ?? {}) as Record<string, Reported>;
    const again = new Set(trained.filter(({ status }) => status === 'diverged').map(({ runId }) => runId));
    const known = ({ runId, status, note }: RunEnd) => {
      const earlier = before[runId];
      return earlier?.status === status && earlier.note === note && !again.has(runId) ? earlier : undefined;
    };
    const isAccepted = (end: RunEnd) =>
      end.status === 'diverged' && (accept || known(end)?.accepted === true);
    const now = { ...before };
    for (const id of selected) delete now[id];
    for (const end of failed) {
      now[end.runId] = { status: end.status, note: end.note, accepted: isAccepted(end) };
    }
    if (Object.keys(now).length > 0 || Object.keys(before).length > 0) tryWrite(path, now);
    const open = failed.filter((end) => !isAccepted(end));
    return { failed: open, unreported: open.filter((end) => known(end) === undefined) };
  } finally {
    lock.release();
  }
}

/** A full disk is ignored: the failures are then reported once more. */
function tryWrite(path: string, reported: Record<string, Reported>): void {
  try {
    writeJsonIfChanged(path, reported);
  } catch (error) {
    if (!isDiskFull((error as NodeJS.ErrnoException).code)) throw error;
  }
}
