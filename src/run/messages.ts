/** Messages from a training process to the sweep that started it, over the IPC channel. */
import type { RunStatus } from '../results/run-status.js';

export type RunMessage =
  | { type: 'started'; runId: string; steps: number }
  | { type: 'step'; runId: string; step: number; loss: number; tokensPerSecond: number; secondsLeft: number }
  | { type: 'evaluating'; runId: string; mode: string; done: number; total: number }
  | { type: 'finished'; runId: string; status: RunStatus; note: string | null };

/** The end of a run, as reported to the sweep. */
export interface RunEnd {
  runId: string;
  status: RunStatus;
  note: string | null;
}

/** Sends a message to the parent, if there is one; resolves once it is sent. */
export function sendToParent(message: RunMessage): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined) resolve();
    else process.send(message, undefined, undefined, () => resolve());
  });
}
