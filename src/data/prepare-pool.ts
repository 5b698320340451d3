/** Prepares parts in several threads, each of which takes the next part from a shared queue. */
import { Worker } from 'node:worker_threads';
import { InputError } from '../errors.js';
import { type Part, type PartResult, type PrepareSettings, preparePart } from './prepare.js';
import type { WorkerMessage, WorkerSetup } from './prepare-messages.js';
import { openTokenizer } from './tokenizers.js';

export interface PoolOptions {
  settings: PrepareSettings;
  folder: string;
  jobs: number;
  /** As in PrepareOptions. */
  skipBad: boolean;
  /** Called with the number of input bytes of each read. */
  onRead: (bytes: number) => void;
  onDone: (part: Part, result: PartResult) => void;
}

/**
 * Prepares all parts; a single job runs in this thread.
 *
 * @throws InputError the first error of any part
 */
export async function prepareParts(parts: readonly Part[], options: PoolOptions): Promise<void> {
  const { settings, folder, jobs, skipBad, onRead, onDone } = options;
  if (jobs === 1) {
    const tokenizer = await openTokenizer(settings.tokenizer, folder);
    for (const part of parts)
      onDone(part, await preparePart(part, settings, tokenizer, folder, { onRead, skipBad }));
    return;
  }
  const queue = [...parts];
  const workers: Worker[] = [];
  try {
    await Promise.all(
      Array.from({ length: Math.min(jobs, parts.length) }, async () => {
        const setup: WorkerSetup = { settings, folder, skipBad };
        const worker = new Worker(new URL('./prepare-worker.js', import.meta.url), { workerData: setup });
        workers.push(worker);
        for (let part = queue.shift(); part !== undefined; part = queue.shift()) {
          onDone(part, await prepareInWorker(worker, part, onRead));
        }
      }),
    );
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

function prepareInWorker(worker: Worker, part: Part, onRead: (bytes: number) => void): Promise<PartResult> {
  return new Promise((resolve, reject) => {
    const onExit = (code: number) => fail(new Error(`a tokenizing thread ended with exit code ${code}`));
    const settle = () => worker.off('message', onMessage).off('error', fail).off('exit', onExit);
    const fail = (error: Error) => {
      settle();
      reject(error);
    };
    const onMessage = (message: WorkerMessage) => {
      if (message.type === 'read') onRead(message.bytes);
      else if (message.type === 'failed') {
        fail(message.isInput ? new InputError(message.message) : new Error(message.message));
      } else {
        settle();
        resolve(message.result);
      }
    };
    worker.on('message', onMessage).on('error', fail).on('exit', onExit);
    worker.postMessage(part);
  });
}
