/** Participation by position: counted in equal parts of the sequence, over all sequences. */
import { expect, it } from 'vitest';
import { participationByPosition } from '../../src/eval/analysis.js';

it.each([
  { length: 4, mask: [1, 0, 0, 1, 1, 1, 0, 0], shares: [1, 0.5, 0, 0.5] }, // fewer positions than parts
  {
    length: 32,
    mask: Array.from({ length: 64 }, (_, i) => (i % 32 < 3 ? 1 : 0)),
    shares: [1, 0.5, ...Array(14).fill(0)],
  },
  {
    length: 40,
    mask: Array.from({ length: 40 }, (_, i) => (i === 2 ? 1 : 0)),
    shares: [1 / 3, ...Array(15).fill(0)],
  },
])('of $length positions', ({ length, mask, shares }) => {
  expect(participationByPosition(Uint8Array.from(mask), length)).toEqual(shares);
});
