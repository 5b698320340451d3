/** What a training process tells the sweep that started it, over the IPC channel. */
import type { RunStatus } from '../results/columns.js';

export type RunMessage =
  | { type: 'started'; runId: string; steps: number }
  | { type: 'step'; runId: string; step: number; loss: number; tokensPerSecond: number; secondsLeft: number }
  | { type: 'evaluating'; runId: string; mode: string; done: number; total: number }
  | { type: 'finished'; runId: string; status: RunStatus; note: string | null };

/** How a run ended, as the sweep sees it. */
export interface RunEnd {
  runId: string;
  status: RunStatus;
  note: string | null;
}

/** Sends a message to the parent; nothing where the process has none. */
export function tellParent(message: RunMessage): void {
  process.send?.(message);
}
