/** Random streams: determined by seed and keys, uniform in (0, 1), normal with the given standard deviation. */
import { describe, expect, it } from 'vitest';
import { randomStream } from '../src/random.js';

function draw(...name: [number, ...(string | number)[]]): number[] {
  const stream = randomStream(...name);
  return Array.from({ length: 8 }, () => stream.bits());
}

describe('randomStream', () => {
  it('gives the same numbers for the same seed and keys, and different ones otherwise', () => {
    expect(draw(1, 'init', 'a')).toEqual(draw(1, 'init', 'a'));
    const names: [number, ...(string | number)[]][] = [
      [1, 'init', 'a'],
      [2, 'init', 'a'],
      [1, 'init', 'b'],
      [1, 'inita'],
      [1, 'init', 'a', 0],
      [1, 'init', 'a', '0'],
    ];
    expect(new Set(names.map((name) => draw(...name).join())).size).toBe(names.length);
  });

  it('never changes, so that stored runs are reproducible', () => {
    // Recorded from xoroshiro128plus with the state sha256('[0,"x"]').
    expect(draw(0, 'x').slice(0, 3)).toEqual([1508133473, 3868075120, 1358094485]);
  });

  it('is uniform in the open interval (0, 1)', () => {
    const stream = randomStream(0, 'uniform');
    const values = Array.from({ length: 20_000 }, () => stream.uniform());
    expect(values.every((value) => value > 0 && value < 1)).toBe(true);
    const tenths = Array.from(
      { length: 10 },
      (_, i) => values.filter((v) => Math.floor(v * 10) === i).length,
    );
    // Expected 2000 each, standard deviation 42: a limit of five of them.
    for (const count of tenths) expect(Math.abs(count - 2000)).toBeLessThan(210);
  });

  it('fills arrays of even and odd length with normal numbers of the given standard deviation', () => {
    const values = new Float32Array(100_001);
    randomStream(3, 'normal').fillNormal(values, 0.02);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const moment = (power: number) =>
      values.reduce((sum, value) => sum + (value / 0.02) ** power, 0) / values.length;
    // Limits of five standard errors: 1/√n, √(2/n), √(96/n).
    expect(Math.abs(mean / 0.02)).toBeLessThan(0.016);
    expect(Math.abs(moment(2) - 1)).toBeLessThan(0.023);
    expect(Math.abs(moment(4) - 3)).toBeLessThan(0.155);
    expect(values.at(-1)).not.toBe(0);
  });

  it('gives single normal numbers', () => {
    const stream = randomStream(4, 'one');
    const values = Array.from({ length: 10_000 }, () => stream.normal());
    const inside = values.filter((value) => Math.abs(value) < 1).length / values.length;
    expect(Math.abs(inside - 0.6827)).toBeLessThan(0.025);
  });
});
