/** A thread of normal-threads.ts: runs the tasks of each round, and ends when there are none for some seconds. */
import { workerData } from 'node:worker_threads';
import { ALIVE, type DrawBoard, GENERATION, runTasks } from './normal-tasks.js';

/** Milliseconds. */
const IDLE = 5000;

const board = workerData as DrawBoard;
for (let generation = 0; ; ) {
  const state = Atomics.wait(board.control, GENERATION, generation, IDLE);
  if (state === 'timed-out') break;
  generation = Atomics.load(board.control, GENERATION);
  runTasks(board);
}
Atomics.sub(board.control, ALIVE, 1);
