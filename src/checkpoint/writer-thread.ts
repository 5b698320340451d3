/** The thread that writes one checkpoint while training continues. */
import { parentPort, workerData } from 'node:worker_threads';
import { messageOf } from '../errors.js';
import { type CheckpointJob, writeCheckpoint } from './folder.js';

/** What the thread posts when it ends. */
export type ThreadResult = { written: true } | { written: false; message: string; code: string | null };

let result: ThreadResult;
try {
  writeCheckpoint(workerData as CheckpointJob);
  result = { written: true };
} catch (error) {
  result = { written: false, message: messageOf(error), code: (error as NodeJS.ErrnoException).code ?? null };
}
parentPort?.postMessage(result);
