/**
 * Normal numbers by several threads: the numbers of one stream are divided into tasks, each of which starts at its own state
 * of the generator, so that they are those of a single thread, bit for bit. Threads share the memory of a DrawBoard.
 */
import { streamAfter } from '../random.js';

/** Numbers of a task, even: some milliseconds. */
const TASK = 2 ** 17;
/** Numbers of a round: the shared memory has 64 MiB, so a large tensor takes several. */
export const ROUND = 2 ** 24;

/** Entries of DrawBoard.control. */
export const GENERATION = 0;
const NEXT = 1;
const FINISHED = 2;
const TASKS = 3;
/** Threads that wait for rounds. */
export const ALIVE = 4;
const LENGTH = 5;
const STATE = 6;
const CONTROL_LENGTH = STATE + 4;
/** No task has this number. */
const CLOSED = 2 ** 30;

export interface DrawBoard {
  control: Int32Array<SharedArrayBuffer>;
  /** The deviation, and how many numbers of the stream come before the round. */
  scale: Float64Array<SharedArrayBuffer>;
  out: Float32Array<SharedArrayBuffer>;
}

export function createDrawBoard(): DrawBoard {
  const control = new Int32Array(new SharedArrayBuffer(4 * CONTROL_LENGTH));
  control[NEXT] = CLOSED;
  return {
    control,
    scale: new Float64Array(new SharedArrayBuffer(16)),
    out: new Float32Array(new SharedArrayBuffer(4 * ROUND)),
  };
}

/** Draws `length` numbers of a stream into the board's memory, together with its threads, and waits for them. */
export function drawRound(
  board: DrawBoard,
  state: readonly number[],
  std: number,
  before: number,
  length: number,
): void {
  const { control, scale } = board;
  const tasks = Math.ceil(length / TASK);
  // A thread that is late takes no task of a round that is half written.
  Atomics.store(control, NEXT, CLOSED);
  control.set(state, STATE);
  scale.set([std, before]);
  control[LENGTH] = length;
  control[FINISHED] = 0;
  control[TASKS] = tasks;
  Atomics.store(control, NEXT, 0);
  Atomics.add(control, GENERATION, 1);
  Atomics.notify(control, GENERATION);
  runTasks(board);
  for (;;) {
    const finished = Atomics.load(control, FINISHED);
    if (finished === tasks) return;
    Atomics.wait(control, FINISHED, finished);
  }
}

/** Runs tasks of the current round until all are taken. */
export function runTasks({ control, scale, out }: DrawBoard): void {
  for (;;) {
    const task = Atomics.add(control, NEXT, 1);
    if (task >= Atomics.load(control, TASKS)) return;
    const start = task * TASK;
    const end = Math.min(start + TASK, control[LENGTH] as number);
    const [std, before] = scale as unknown as [number, number];
    const stream = streamAfter([...control.subarray(STATE, STATE + 4)], before + start);
    stream.fillNormal(out.subarray(start, end), std);
    Atomics.add(control, FINISHED, 1);
    Atomics.notify(control, FINISHED);
  }
}
