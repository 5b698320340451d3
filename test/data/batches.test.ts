/** Batches: every window once per epoch, no state except the cursor, targets shifted by one. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HeldoutWindows, TrainingBatches } from '../../src/data/batches.js';
import { permutation } from '../../src/data/permutation.js';
import type { TokenSource } from '../../src/data/token-source.js';
import { InputError } from '../../src/errors.js';

/** A source whose token i is i. */
function counting(tokens: number): TokenSource {
  return {
    tokens,
    files: ['a.bin'],
    read: (start, out) => {
      for (let i = 0; i < out.length; i++) out[i] = start + i;
    },
    close: () => {},
  };
}

describe('permutation', () => {
  it('is a bijection for any size and seed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3000 }), fc.integer(), (size, seed) => {
        const order = permutation(size, seed);
        const seen = new Set(Array.from({ length: size }, (_, i) => order(i)));
        expect(seen.size).toBe(size);
        for (const value of seen) expect(value >= 0 && value < size).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it('stays in range for sizes beyond 32 bits', () => {
    const size = 2 ** 40 + 3;
    const order = permutation(size, 7);
    const values = Array.from({ length: 1000 }, (_, i) => order(size - 1 - i));
    expect(new Set(values).size).toBe(1000);
    expect(values.every((value) => Number.isInteger(value) && value >= 0 && value < size)).toBe(true);
    // Uniform over the range: the mean of 1000 uniform numbers has a standard error of 0.9% of the range.
    expect(Math.abs(values.reduce((a, b) => a + b, 0) / 1000 / size - 0.5)).toBeLessThan(0.05);
  });

  it('differs between seeds and separates neighbours', () => {
    const order = (seed: number) => Array.from({ length: 1000 }, (_, i) => permutation(1000, seed)(i));
    const [a, b] = [order(1), order(2)];
    // Two random permutations agree at one index on average, and share two pairs of neighbours.
    expect(a.filter((value, i) => value === b[i]).length).toBeLessThan(10);
    expect(a.filter((value, i) => Math.abs(value - (a[i + 1] ?? -9)) === 1).length).toBeLessThan(12);
  });
});

describe('TrainingBatches', () => {
  it('draws every window once per epoch, targets shifted by one, in a new order each epoch', () => {
    const T = 4;
    const batches = new TrainingBatches(counting(4 * 50 + 3), T, 0); // 50 windows and two tokens left over
    const epoch = () => {
      const { inputs, targets } = batches.next(50);
      expect(targets).toEqual(inputs.map((token) => token + 1));
      return Array.from({ length: 50 }, (_, i) => (inputs[i * T] as number) / T);
    };
    const [first, second] = [epoch(), epoch()];
    const all = Array.from({ length: 50 }, (_, i) => i);
    expect([...first].sort((a, b) => a - b)).toEqual(all);
    expect([...second].sort((a, b) => a - b)).toEqual(all);
    expect(first).not.toEqual(all);
    expect(second).not.toEqual(first);
  });

  it('has no state except the cursor: any split and any restart give the same sequences', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), fc.integer(), sizes, (windows, seed, parts) => {
        const fresh = () => new TrainingBatches(counting(3 * windows + 1), 3, seed);
        const total = parts.reduce((a, b) => a + b, 0);
        const whole = fresh().next(total);
        let cursor = 0;
        const inputs = parts.flatMap((part) => {
          const batches = fresh();
          batches.cursor = cursor;
          const batch = batches.next(part);
          cursor = batches.cursor;
          return [...batch.inputs];
        });
        expect(inputs).toEqual([...whole.inputs]);
        expect(cursor).toBe(total);
      }),
      { numRuns: 50 },
    );
  });

  it('has one window for exactly T + 1 tokens, and rejects fewer with both numbers', () => {
    expect(new TrainingBatches(counting(9), 8, 0).windows).toBe(1);
    expect(() => new TrainingBatches(counting(8), 8, 0)).toThrow(
      new InputError(
        'a.bin: 8 tokens; one sequence of 8 and its last target need 9: use more text or decrease sequence_length',
      ),
    );
  });

  it('keeps the cursor when reading fails', () => {
    const source = counting(100);
    const batches = new TrainingBatches(source, 4, 0);
    source.read = () => {
      throw new InputError('gone');
    };
    expect(() => batches.next(2)).toThrow('gone');
    expect(batches.cursor).toBe(0);
  });
});

describe('HeldoutWindows', () => {
  it.each([
    [9, 8, 1],
    [16, 8, 1],
    [17, 8, 2],
    [101, 10, 10],
  ])('%d tokens at T = %d make %d windows', (tokens, length, count) => {
    expect(new HeldoutWindows(counting(tokens), length).count).toBe(count);
  });

  it('reads windows in order', () => {
    const { sequences, inputs, targets } = new HeldoutWindows(counting(13), 3).read(1, 2);
    expect(sequences).toBe(2);
    expect([...inputs]).toEqual([3, 4, 5, 6, 7, 8]);
    expect([...targets]).toEqual([4, 5, 6, 7, 8, 9]);
  });
});
