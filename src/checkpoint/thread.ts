/** A thread that writes the one checkpoint that it is started with: training goes on beside it. */
import { parentPort, workerData } from 'node:worker_threads';
import { messageOf } from '../errors.js';
import { type CheckpointJob, writeCheckpoint } from './folder.js';
import type { ThreadResult } from './writer.js';

let result: ThreadResult;
try {
  writeCheckpoint(workerData as CheckpointJob);
  result = { written: true };
} catch (error) {
  result = { written: false, message: messageOf(error), code: (error as NodeJS.ErrnoException).code ?? null };
}
parentPort?.postMessage(result);
