/** Runs train in parallel up to the limit, each on another GPU if there are several. */
import { describe, expect, it } from 'vitest';
import { automaticJobs, inParallel, startingOrder } from '../../src/sweep/jobs.js';
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
      return 'settled';
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
      return 'settled';
    });
    expect(slots.slice(0, 5)).toEqual([0, 1, 2, 2, 2]); // the short ones follow one another on the third
  });

  it('starts no more items after a stop', async () => {
    const started: number[] = [];
    await inParallel(
      [1, 2, 3],
      1,
      async (item) => {
        started.push(item);
        return 'settled';
      },
      { stopped: () => started.length === 2 },
    );
    expect(started).toEqual([1, 2]);
  });

  it('gives an item that comes back to a slot that accepts it, which waits for it', async () => {
    const at: string[] = [];
    const left = await inParallel(
      ['a', 'b', 'c'],
      2,
      async (item, slot) => {
        at.push(`${item}${slot}`);
        await new Promise((resolve) => setTimeout(resolve, slot === 0 ? 20 : 1));
        return slot === 0 ? 'again' : 'settled';
      },
      { accepts: (_, slot) => slot === 1 || at.length === 0 }, // slot 0 is retired after its first item
    );
    expect(at).toEqual(['a0', 'b1', 'c1', 'a1']);
    expect(left).toEqual([]);
  });

  it('returns the items that no slot accepts any more', async () => {
    let lost = false;
    const work = async () => {
      lost = true;
      return 'settled' as const;
    };
    expect(await inParallel([1, 2, 3], 1, work, { accepts: () => !lost })).toEqual([2, 3]);
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
