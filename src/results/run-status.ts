/** The statuses of a run, and what each means for its sweep. */

interface StatusTraits {
  /** How a sweep counts a run that ends with this status. */
  outcome: 'done' | 'unfinished' | 'failed';
  /** The run keeps its result and is not resumed. */
  isFinal: boolean;
}

export const RUN_STATUSES = {
  pending: { outcome: 'unfinished', isFinal: false },
  running: { outcome: 'unfinished', isFinal: false },
  done: { outcome: 'done', isFinal: true },
  /** Trained again under `--retry` only. */
  diverged: { outcome: 'failed', isFinal: true },
  'out-of-memory': { outcome: 'failed', isFinal: false },
  failed: { outcome: 'failed', isFinal: false },
  interrupted: { outcome: 'unfinished', isFinal: false },
  /** Not feasible: the note has the reason. Never started. */
  skipped: { outcome: 'failed', isFinal: false },
} as const satisfies Record<string, StatusTraits>;

export type RunStatus = keyof typeof RUN_STATUSES;

const FINAL: ReadonlySet<string | undefined> = new Set(
  Object.entries<StatusTraits>(RUN_STATUSES).flatMap(([status, { isFinal }]) => (isFinal ? [status] : [])),
);

/** Whether a run keeps its result; false without a result, and for a status that only another version has. */
export function hasEnded(status: RunStatus | undefined): boolean {
  return FINAL.has(status);
}
