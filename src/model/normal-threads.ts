/** Draws initial values on all cores: a model of a billion parameters takes a minute on one. */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { RandomStream } from '../random.js';
import { ALIVE, createDrawBoard, type DrawBoard, drawRound, ROUND } from './normal-tasks.js';

/** Fewer numbers are drawn faster than threads start. */
const LEAST = 2 ** 21;
const MOST_THREADS = 16;
const THREAD = new URL('./normal-thread.js', import.meta.url);

let board: DrawBoard | null = null;

/**
 * `stream.fillNormal(out, std)`, the same numbers bit for bit, by several threads if there are many. Blocks until they are
 * drawn. The stream is not for further use.
 */
export function fillNormal(stream: RandomStream, out: Float32Array, std: number): void {
  if (out.length < LEAST) {
    stream.fillNormal(out, std);
    return;
  }
  board ??= createDrawBoard();
  if (board.control[ALIVE] === 0) startThreads(board);
  for (let before = 0; before < out.length; before += ROUND) {
    const length = Math.min(ROUND, out.length - before);
    drawRound(board, stream.state, std, before, length);
    out.set(board.out.subarray(0, length), before);
  }
}

/** Starts threads that end when they have had no round for some seconds. This thread draws as well. */
function startThreads(shared: DrawBoard): void {
  // A bundle, or the sources under vitest, have no file for them.
  if (!existsSync(fileURLToPath(THREAD))) return;
  const threads = Math.min(MOST_THREADS, availableParallelism()) - 1;
  shared.control[ALIVE] = threads;
  for (let i = 0; i < threads; i++) {
    // Options of this process, such as --eval, are not for threads. Without one the others have more to do.
    new Worker(THREAD, { workerData: shared, execArgv: [] })
      .on('error', () => Atomics.sub(shared.control, ALIVE, 1))
      .unref();
  }
}
