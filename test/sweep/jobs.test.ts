/** That as many runs train side by side as are allowed. */
import { describe, expect, it } from 'vitest';
import { inParallel } from '../../src/sweep/jobs.js';

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
