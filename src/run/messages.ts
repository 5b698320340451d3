/** Messages from a training process to the sweep that started it, over the IPC channel. */
import type { RunStatus } from '../results/run-status.js';

export type RunMessage =
  | { type: 'started'; runId: string; steps: number }
  | {
      type: 'step';
      runId: string;
      step: number;
      loss: number;
      tokensPerSecond: number;
      secondsLeft: number;
      /** Duration of the step in milliseconds. */
      stepMs: number;
    }
  /** Training pauses: a checkpoint is read or written, or a batch of an evaluation has ended. */
  | { type: 'pausing'; runId: string }
  | { type: 'evaluating'; runId: string; mode: string; done: number; total: number }
  | ({ type: 'finished' } & RunEnd);

/** The end of a run, as reported to the sweep. */
export interface RunEnd {
  runId: string;
  status: RunStatus;
  note: string | null;
  /** Whether the GPU's driver has failed: the run may train on another GPU. */
  isOfDevice?: boolean;
}

/** Sends a message to the parent, if there is one; resolves once it is sent. */
export function sendToParent(message: RunMessage): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined) resolve();
    else process.send(message, undefined, undefined, () => resolve());
  });
}
