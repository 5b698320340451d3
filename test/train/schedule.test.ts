/** The learning rate schedule. */
import { describe, expect, it } from 'vitest';
import { learningRate, warmupSteps } from '../../src/train/schedule.js';

it.each([
  [10, 1],
  [19, 1],
  [100, 10],
  [500, 20],
  [1000, 20],
  [2000, 40],
  [100_000, 2000],
])('%i steps warm up for %i', (steps, warmup) => {
  expect(warmupSteps(steps)).toBe(warmup);
});

describe.each([10, 137, 5000])('over %i steps', (steps) => {
  const rates = Array.from({ length: steps }, (_, i) => learningRate(i + 1, steps, 2e-3));
  const warmup = warmupSteps(steps);

  it('rises linearly to the peak, and falls to exactly a tenth of it at the last step', () => {
    expect(rates[0]).toBeCloseTo(2e-3 / warmup, 12);
    expect(rates[warmup - 1]).toBe(2e-3);
    expect(rates.at(-1)).toBe(2e-3 * 0.1);
    for (let i = warmup; i < steps; i++) expect(rates[i]).toBeLessThan(rates[i - 1] as number);
  });

  it('is halfway between peak and end in the middle of the cosine', () => {
    const middle = (steps + warmup) / 2;
    if (Number.isInteger(middle)) expect(rates[middle - 1]).toBeCloseTo(0.55 * 2e-3, 12);
  });
});
