/** Writes checkpoints in a thread, and says what a full disk lacks. */
import { Worker } from 'node:worker_threads';
import { DiskFullError } from '../errors.js';
import { isDiskFull } from '../files/atomic.js';
import { bytes } from '../format.js';
import { freeDiskBytes } from '../machine.js';
import { type CheckpointJob, checkpointFileBytes } from './folder.js';
import type { ThreadResult } from './writer-thread.js';

/**
 * Writes a checkpoint in a thread of its own. The memory of its files goes there and is gone here.
 *
 * @throws DiskFullError with the numbers where there is no room for it
 */
export async function writeCheckpointInThread(job: CheckpointJob): Promise<void> {
  const needed = checkpointFileBytes(job.files);
  const result = await inThread(job);
  if (result.written) return;
  if (!isDiskFull(result.code)) throw new Error(result.message);
  throw new DiskFullError(
    `${result.message}: the checkpoint takes ${bytes(needed)}, ${bytes(freeDiskBytes(job.checkpoints))} are free`,
  );
}

function inThread(job: CheckpointJob): Promise<ThreadResult> {
  // q, k and v share one buffer: each is handed over once. Small ones are Node's own, and are copied.
  const buffers = new Set(job.files.flatMap(({ parts }) => parts.map(({ buffer }) => buffer as ArrayBuffer)));
  const large = [...buffers].filter(({ byteLength }) => byteLength > Buffer.poolSize);
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./writer-thread.js', import.meta.url), {
      workerData: job,
      transferList: large,
    });
    worker.on('message', resolve).on('error', reject);
    worker.on('exit', (code) => reject(new Error(`the thread that writes a checkpoint ended with ${code}`)));
  });
}
