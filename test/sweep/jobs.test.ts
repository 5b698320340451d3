/** How many runs train side by side, and that so many do. */
import { describe, expect, it } from 'vitest';
import { inParallel, physicalCores } from '../../src/sweep/jobs.js';

const processor = (socket: number, core: number) =>
  `processor\t: 0\nphysical id\t: ${socket}\ncore id\t\t: ${core}`;

describe('physical cores', () => {
  it.each([
    [
      'two threads each of two cores',
      [processor(0, 0), processor(0, 1), processor(0, 0), processor(0, 1)],
      4,
      2,
    ],
    ['two sockets', [processor(0, 0), processor(1, 0)], 2, 2],
    ['fewer allowed than there are', [processor(0, 0), processor(0, 1)], 1, 1],
    ['a file that does not tell', ['processor : 0', 'processor : 1'], 2, 2],
  ])('%s', (_, processors, logical, expected) => {
    expect(physicalCores(processors.join('\n\n'), logical)).toBe(expected);
  });

  it('are the logical ones where there is no file', () => expect(physicalCores(null, 3)).toBe(3));
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
