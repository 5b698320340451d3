/** Correlation coefficients against cases computed by hand, and the coverage of their intervals. */
import { expect, it } from 'vitest';
import { pearson, ranks, spearman } from '../../src/eval/correlation.js';
import { randomStream } from '../../src/random.js';

it('ranks start at 1, and equal values get their mean rank', () => {
  expect([...ranks([10, 30, 20, 20, 5])]).toEqual([2, 5, 3.5, 3.5, 1]);
});

it.each([
  [[1, 2, 3, 4], [2, 4, 6, 8], 1, 1],
  [[1, 2, 3, 4], [8, 6, 4, 2], -1, -1],
  [[1, 2, 3, 4], [1, 4, 9, 16], 0.984374, 1],
  [[1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8, 0.8],
])('of %j and %j: pearson %f, spearman %f', (x, y, r, rho) => {
  expect(pearson(x, y, x.length).r).toBeCloseTo(r, 6);
  expect(spearman(x, y, x.length).r).toBeCloseTo(rho, 6);
});

it('is null if one variable is constant, and has no interval for a single sequence', () => {
  expect(pearson([1, 1, 1, 1], [1, 2, 3, 4], 2)).toEqual({ r: null, interval: null });
  expect(pearson([1, 2, 3, 5], [1, 2, 3, 4], 4).interval).toBeNull();
});

it('the interval covers the true coefficient of independent pairs, with the theoretical width', () => {
  const stream = randomStream(7, 'pairs');
  const [x, y]: [number[], number[]] = [[], []];
  for (let i = 0; i < 200 * 20; i++) {
    const a = stream.normal();
    x.push(a);
    y.push(0.6 * a + 0.8 * stream.normal());
  }
  const { interval } = pearson(x, y, 20);
  const [low, high] = interval as [number, number];
  expect(low).toBeLessThan(0.6);
  expect(high).toBeGreaterThan(0.6);
  // Standard error of r: (1 - r²)/sqrt(n) for normal pairs.
  expect((high - low) / (2 * 1.96)).toBeCloseTo(0.64 / Math.sqrt(4000), 2);
});
