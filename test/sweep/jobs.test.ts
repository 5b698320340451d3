/** Runs train in parallel up to the limit, each on another GPU if there are several. */
import { describe, expect, it } from 'vitest';
import { automaticJobs, gpuEnvironment, inParallel, startingOrder } from '../../src/sweep/jobs.js';
import { plannedRun } from '../results/planned-run.js';

it('starts the largest first in parallel, but in the file’s order with a time limit', () => {
  const plan = [2, 9, 5].map((flops) => plannedRun(`run-${flops}`, { train_flops: flops * 1e18 }));
  const order = (jobs: number, maxHours?: number) =>
    startingOrder(plan, jobs, maxHours).map(({ run_id }) => run_id);
  expect(order(2)).toEqual(['run-9', 'run-5', 'run-2']);
  expect(order(1)).toEqual(['run-2', 'run-9', 'run-5']);
  expect(order(2, 12)).toEqual(['run-2', 'run-9', 'run-5']);
});

describe('in parallel', () => {
  it('processes every item once, started in order, up to the limit at a time', async () => {
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

  it('gives each item a unique slot, and the next item a free one', async () => {
    const taken = new Set<number>();
    const slots: number[] = [];
    await inParallel([4, 9, 1, 1, 1, 5], 3, async (item, slot) => {
      expect(taken.has(slot)).toBe(false);
      taken.add(slot);
      slots.push(slot);
      await new Promise((resolve) => setTimeout(resolve, 10 * item));
      taken.delete(slot);
    });
    expect(slots.slice(0, 5)).toEqual([0, 1, 2, 2, 2]); // the short ones follow one another on the third
  });

  it('starts no more items after a stop', async () => {
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
] as const)('automatic jobs: %s with %i GPUs trains %i runs in parallel', (backend, gpus, jobs) => {
  expect(automaticJobs(backend, gpus)).toBe(jobs);
});

it('a run sees only the GPU of its slot; a single GPU needs no environment', () => {
  const gpus = ['GPU-a', 'GPU-b'];
  expect([0, 1, 2].map((slot) => gpuEnvironment(slot, gpus).CUDA_VISIBLE_DEVICES)).toEqual([
    'GPU-a',
    'GPU-b',
    'GPU-a',
  ]);
  expect(gpuEnvironment(0, ['GPU-a'])).toEqual({});
  expect(gpuEnvironment(0, [])).toEqual({});
});
