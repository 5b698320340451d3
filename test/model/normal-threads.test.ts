/** Threads draw the numbers that a single one draws; they end by themselves and keep no process alive. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

/** In a process of the built program: the sources have no file for a thread. */
const SCRIPT = `
  import { fillNormal } from './dist/model/normal-threads.js';
  import { randomStream } from './dist/random.js';
  const same = [];
  for (const length of [2 ** 21, 2 ** 24 + 2 ** 21 + 3, 2 ** 22 + 1]) {
    const [serial, threaded] = [new Float32Array(length), new Float32Array(length)];
    randomStream(5, 'x', length).fillNormal(serial, 0.02);
    fillNormal(randomStream(5, 'x', length), threaded, 0.02);
    same.push(Buffer.compare(Buffer.from(serial.buffer), Buffer.from(threaded.buffer)) === 0);
  }
  console.log(JSON.stringify({ same }));
`;

it('several rounds of threads equal one thread, bit for bit', async () => {
  const started = performance.now();
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', SCRIPT]);
  expect(JSON.parse(stdout).same).toEqual([true, true, true]);
  expect(performance.now() - started).toBeLessThan(60_000);
});

it('a thread takes its share of the tasks', async () => {
  // The board's own thread leaves the round open for the worker: it waits until another has finished a task.
  const script = `
    import { Worker } from 'node:worker_threads';
    import { createDrawBoard, runTasks } from './dist/model/normal-tasks.js';
    import { randomStream } from './dist/random.js';
    const board = createDrawBoard();
    const length = 2 ** 18;
    board.control.set([1, 0, 0, 2, 1, length, ...randomStream(1, 'y').state]);
    board.scale.set([1, 0]);
    new Worker(new URL('./dist/model/normal-thread.js', 'file://' + process.cwd() + '/'), { workerData: board, execArgv: [] }).unref();
    while (Atomics.load(board.control, 2) < 2) {
      if (Atomics.wait(board.control, 2, Atomics.load(board.control, 2), 30_000) === 'timed-out') break;
    }
    const expected = new Float32Array(length);
    randomStream(1, 'y').fillNormal(expected, 1);
    console.log(Buffer.compare(Buffer.from(expected.buffer), Buffer.from(board.out.buffer, 0, 4 * length)));
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
  expect(stdout.trim()).toBe('0');
});
