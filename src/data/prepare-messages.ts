/** The messages between the threads that tokenize text and the thread that started them. */
import { InputError, messageOf } from '../errors.js';
import type { PartResult, PrepareSettings } from './prepare.js';

/** The data that a thread receives at its start. */
export interface WorkerSetup {
  settings: PrepareSettings;
  folder: string;
  skipBad: boolean;
}

/** Progress and outcome of the part that a thread prepares. */
export type WorkerMessage =
  | { type: 'read'; bytes: number }
  | { type: 'done'; result: PartResult }
  | { type: 'failed'; message: string; isInput: boolean };

/** The message for an error in a thread. */
export function failure(error: unknown): WorkerMessage {
  return { type: 'failed', message: messageOf(error), isInput: error instanceof InputError };
}
