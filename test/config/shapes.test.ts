/** The shapes of table A9, and the default number of heads. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { CHINCHILLA_SHAPES, customShape, defaultHeads } from '../../src/config/shapes.js';

it('the shapes equal the fixture of table A9, row by row', () => {
  const { rows } = JSON.parse(readFileSync('test/fixtures/chinchilla-shapes.json', 'utf8'));
  const ours = CHINCHILLA_SHAPES.map(({ name, d_model, d_ff, n_heads, n_layers }) => [
    Number(name.slice(0, -1)),
    d_model,
    d_ff,
    d_model / n_heads,
    n_heads,
    n_layers,
  ]);
  expect(ours).toEqual(rows);
});

it.each([
  [512, 8],
  [64, 1],
  [96, 2],
  [48, 1],
  [160, 2],
  [2, 1],
  [63, null],
])('a width of %i gets %s heads', (width, heads) => {
  expect(defaultHeads(width)).toBe(heads);
});

it('the default heads divide an even width into the even head size nearest to 64', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2000 }), (half) => {
      const { n_heads } = customShape(2 * half, 1);
      expect((2 * half) % (2 * n_heads)).toBe(0);
      const sizes = Array.from({ length: half }, (_, i) => 2 * (i + 1)).filter(
        (size) => (2 * half) % size === 0,
      );
      const distances = sizes.map((size) => Math.abs(Math.log(size / 64)));
      expect(Math.abs(Math.log((2 * half) / n_heads / 64))).toBeCloseTo(Math.min(...distances), 12);
    }),
  );
});
