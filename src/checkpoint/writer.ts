/** Writes checkpoints in a separate thread. */
import { Worker } from 'node:worker_threads';
import { DiskFullError } from '../errors.js';
import { isDiskFull } from '../files/atomic.js';
import { bytes } from '../format.js';
import { freeDiskBytes } from '../machine.js';
import { type CheckpointJob, checkpointFileBytes } from './folder.js';
import type { ThreadResult } from './writer-thread.js';

/**
 * Writes a checkpoint in a thread. The buffers of its files are transferred: the caller can no longer use them.
 *
 * @throws DiskFullError with the bytes needed and free
 */
export async function writeCheckpointInThread(job: CheckpointJob): Promise<void> {
  const needed = checkpointFileBytes(job.files);
  const result = await inThread(job);
  if (result.written) return;
  if (!isDiskFull(result.code)) throw new Error(result.message);
  throw new DiskFullError(
    `${result.message}: the checkpoint needs ${bytes(needed)}, but only ${bytes(freeDiskBytes(job.checkpoints))} are free`,
  );
}

function inThread(job: CheckpointJob): Promise<ThreadResult> {
  // q, k and v share one buffer, which is transferred once. A Buffer may be a part of Node's pool, whose size depends on the
  // version and which cannot be transferred: headers and texts are copied.
  const tensors = job.files.flatMap(({ parts }) => parts.filter((part) => !Buffer.isBuffer(part)));
  const buffers = new Set(tensors.map(({ buffer }) => buffer as ArrayBuffer));
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./writer-thread.js', import.meta.url), {
      workerData: job,
      transferList: [...buffers],
    });
    worker.on('message', resolve).on('error', reject);
    worker.on('exit', (code) =>
      reject(new Error(`the checkpoint writer thread ended with exit code ${code}`)),
    );
  });
}
