/** The messages between the threads that tokenize text and the thread that started them. */
import { InputError, messageOf } from '../errors.js';
import type { PartResult, PrepareSettings } from './prepare.js';

/** The data that a thread is started with. */
export interface WorkerSetup {
  settings: PrepareSettings;
  folder: string;
}

/** Progress and outcome of the part that a thread was sent. */
export type WorkerMessage =
  | { type: 'read'; bytes: number }
  | { type: 'done'; result: PartResult }
  | { type: 'failed'; message: string; isInput: boolean };

/** An error as a message between threads. */
export function failure(error: unknown): WorkerMessage {
  return { type: 'failed', message: messageOf(error), isInput: error instanceof InputError };
}
