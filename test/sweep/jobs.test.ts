/** That as many runs train side by side as are allowed, each on a GPU of its own where there are several. */
import { describe, expect, it } from 'vitest';
import { automaticJobs, gpuEnvironment, inParallel, startingOrder } from '../../src/sweep/jobs.js';
import { plannedRun } from '../results/planned-run.js';

it('starts the largest first where runs train side by side, but keeps to the file where time is limited', () => {
  const plan = [2, 9, 5].map((flops) => plannedRun(`run-${flops}`, { train_flops: flops * 1e18 }));
  const order = (jobs: number, maxHours?: number) =>
    startingOrder(plan, jobs, maxHours).map(({ run_id }) => run_id);
  expect(order(2)).toEqual(['run-9', 'run-5', 'run-2']);
  expect(order(1)).toEqual(['run-2', 'run-9', 'run-5']);
  expect(order(2, 12)).toEqual(['run-2', 'run-9', 'run-5']);
});

describe('in parallel', () => {
  it('does everything once, in order of starting, never more at a time than allowed', async () => {
    let [running, most] = [0, 0];
    const started: number[] = [];
    await inParallel([3, 1, 2, 5, 4], 2, async (item) => {
      started.push(item);
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setTimeout(resolve, item));
      running -= 1;
    });
    expect(started).toEqual([3, 1, 2, 5, 4]);
    expect(most).toBe(2);
  });

  it('gives each item a place that nobody else has, and a free one to the next', async () => {
    const taken = new Set<number>();
    const places: number[] = [];
    await inParallel([4, 9, 1, 1, 1, 5], 3, async (item, slot) => {
      expect(taken.has(slot)).toBe(false);
      taken.add(slot);
      places.push(slot);
      await new Promise((resolve) => setTimeout(resolve, 10 * item));
      taken.delete(slot);
    });
    expect(places.slice(0, 5)).toEqual([0, 1, 2, 2, 2]); // the short ones follow one another on the third
  });

  it('starts nothing more once it is told to stop', async () => {
    const started: number[] = [];
    await inParallel(
      [1, 2, 3],
      1,
      async (item) => void started.push(item),
      () => started.length === 2,
    );
    expect(started).toEqual([1, 2]);
  });
});

it.each([
  ['cuda', 8, 8],
  ['cuda', 0, 1],
  ['tensorflow', 2, 2],
  ['tensorflow', 0, 1],
] as const)('automatic jobs: %s with %i GPUs trains %i runs side by side', (backend, gpus, jobs) => {
  expect(automaticJobs(backend, gpus)).toBe(jobs);
});

it('a run sees one GPU, that of its place; where there is one alone, nothing is said', () => {
  const gpus = ['GPU-a', 'GPU-b'];
  expect([0, 1, 2].map((slot) => gpuEnvironment(slot, gpus).CUDA_VISIBLE_DEVICES)).toEqual([
    'GPU-a',
    'GPU-b',
    'GPU-a',
  ]);
  expect(gpuEnvironment(0, ['GPU-a'])).toEqual({});
  expect(gpuEnvironment(0, [])).toEqual({});
});
