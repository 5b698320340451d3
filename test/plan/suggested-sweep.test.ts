/** The sweep that `mod init` suggests brackets the optimum and fits hours, data and memory. */
import { describe, expect, it } from 'vitest';
import { MOST_PASSES, type SweepLimits, suggestSweep } from '../../src/plan/suggested-sweep.js';

const LIMITS: SweepLimits = {
  tokens: 1e10,
  heldoutTokens: 1e7,
  vocabSize: 256,
  flopsPerSecond: 4e14,
  jobs: 1,
  memoryBytes: 140e9,
  budget: null,
  hours: 8,
};

describe('a suggested sweep', () => {
  it('of bytes on a GPU has sizes around the optimum of the study, and takes the hours', () => {
    const suggested = suggestSweep({ ...LIMITS, budget: 3e16 });
    // linux-bytes at 3e16 FLOPs: the best dense models have 5 to 10 million parameters.
    expect(suggested.sizes.map(({ name }) => name)).toEqual([
      'd160l6',
      'd192l6',
      'd256l8',
      'd320l10',
      'd416l12',
    ]);
    expect(suggested).toMatchObject({
      sequenceLength: 1024,
      seeds: [0, 1, 2],
      runs: 33,
      limitedByData: false,
    });
    const timed = suggestSweep(LIMITS);
    expect(timed.hours).toBeGreaterThan(7);
    expect(timed.hours).toBeLessThanOrEqual(8);
  });

  it.each([5e11, 1e13, 1e15, 1e17, 6e18])(
    'of %d FLOPs has even depths, ascending sizes, enough steps',
    (budget) => {
      for (const vocabSize of budget < 1e15 ? [256] : [256, 50257]) {
        const { sizes, leastSteps, batchSequences, controls } = suggestSweep({
          ...LIMITS,
          budget,
          vocabSize,
          tokens: 1e13,
        });
        expect(sizes.length).toBeGreaterThanOrEqual(4);
        expect(sizes.every(({ n_layers }) => n_layers % 2 === 0)).toBe(true);
        expect(leastSteps).toBeGreaterThanOrEqual(200);
        expect(Math.log2(batchSequences) % 1).toBe(0);
        expect(controls).toHaveLength(3);
      }
    },
  );

  it('reads the data four times at most, and says that the data limits it', () => {
    const suggested = suggestSweep({ ...LIMITS, tokens: 2e8 });
    expect(suggested.limitedByData).toBe(true);
    expect(suggested.passes[0]).toBeLessThanOrEqual(MOST_PASSES);
    expect(suggested.passes[0]).toBeGreaterThan(0.7 * MOST_PASSES);
    expect(suggested.budget).toBeLessThan(suggestSweep(LIMITS).budget);
  });

  it('keeps a given budget, however often it reads the data', () => {
    const suggested = suggestSweep({ ...LIMITS, tokens: 2e8, budget: 3e16 });
    expect(suggested.budget).toBe(3e16);
    expect(suggested.passes[0]).toBeGreaterThan(MOST_PASSES);
  });

  it('leaves out sizes that do not fit the memory', () => {
    const suggested = suggestSweep({ ...LIMITS, budget: 3e16, memoryBytes: 0.5e9 });
    expect(suggested.tooLarge).toBe(1);
    expect(suggested.sizes).toHaveLength(4);
  });

  it('refuses hours and data in which nothing can be trained', () => {
    expect(() => suggestSweep({ ...LIMITS, flopsPerSecond: 1e9, hours: 0.1 })).toThrow(
      /^0\.1 hours are too few: the largest model would train for \d+ steps, fewer than 200; about \d+ times as many are needed$/,
    );
    expect(() => suggestSweep({ ...LIMITS, hours: 0.01 })).toThrow(
      '0.01 hours are too few: the starts of 33 runs alone take 2 minutes',
    );
    expect(() => suggestSweep({ ...LIMITS, tokens: 1e5 })).toThrow(
      /^100000 tokens are too few: at 4 passes the largest model would train for \d+ steps, fewer than 200; about [\d.]+ times as much is needed$/,
    );
    expect(() => suggestSweep({ ...LIMITS, budget: 3e16, memoryBytes: 1e6 })).toThrow('fits the memory');
  });
});
