/** The clustered standard error: a value computed by hand, the ordinary one as a special case, what it must not depend on. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Cluster, clusteredMean, RunningMean } from '../src/statistics.js';

const clustersOf = (groups: readonly (readonly number[])[]): Cluster[] =>
  groups.map((values) => ({ sum: values.reduce((a, b) => a + b, 0), size: values.length }));

it('of three documents of unequal length is as computed by hand', () => {
  // mean 24/6 = 4; the documents' sums differ from 4 times their sizes by 3 - 8, 3 - 4, 18 - 12: 25 + 1 + 36 = 62
  const { mean, standardError } = clusteredMean(clustersOf([[1, 2], [3], [5, 6, 7]]));
  expect(mean).toBe(4);
  expect(standardError).toBeCloseTo(Math.sqrt((3 / 2) * 62) / 6, 14);
});

it('is unknown for fewer than two clusters that hold a value', () => {
  expect(clusteredMean([{ sum: 6, size: 2 }])).toEqual({ mean: 3, standardError: null });
  expect(clusteredMean([{ sum: 0, size: 0 }, { sum: 6, size: 2 }])).toEqual({ mean: 3, standardError: null }); // biome-ignore format: one line
  expect(clusteredMean([]).mean).toBeNaN();
});

const values = fc.array(fc.double({ min: -10, max: 10, noNaN: true }), { minLength: 2, maxLength: 20 });

it('of clusters of one value is the ordinary standard error', () => {
  fc.assert(
    fc.property(values, (numbers) => {
      const running = new RunningMean();
      for (const value of numbers) running.add(value);
      const { mean, standardError } = clusteredMean(clustersOf(numbers.map((value) => [value])));
      expect(mean).toBeCloseTo(running.mean, 9);
      expect(standardError).toBeCloseTo(running.standardError as number, 9);
    }),
  );
});

it('of clusters of one size is the ordinary standard error of their means', () => {
  fc.assert(
    fc.property(values, fc.integer({ min: 2, max: 9 }), (means, size) => {
      const running = new RunningMean();
      for (const value of means) running.add(value);
      const { standardError } = clusteredMean(means.map((value) => ({ sum: value * size, size })));
      expect(standardError).toBeCloseTo(running.standardError as number, 9);
    }),
  );
});

it('does not change when a constant is added to all values, and doubles when they are doubled', () => {
  const groups = fc.array(fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 1, maxLength: 5 }), {
    minLength: 2,
    maxLength: 8,
  });
  const se = (groups: number[][], scale: number, shift: number) =>
    clusteredMean(clustersOf(groups.map((group) => group.map((value) => scale * value + shift))))
      .standardError;
  fc.assert(
    fc.property(groups, (groups) => {
      expect(se(groups, 1, 100)).toBeCloseTo(se(groups, 1, 0) as number, 9);
      expect(se(groups, 2, 0)).toBeCloseTo(2 * (se(groups, 1, 0) as number), 9);
    }),
  );
});
