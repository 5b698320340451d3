/** The generator against its authors' known answers (Random123's kat_vectors), and its numbers against N(0, 1). */
import { tensor1d } from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { normalDrawsKernel, philox } from '../../src/ops/normal-draws.js';
import { useBackend } from '../support/backends.js';

it.each([
  [
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [Array(4).fill(0xffffffff), Array(2).fill(0xffffffff), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]],
  [
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
])('philox of counter %j and key %j', (counter, [key0, key1], words) => {
  const state = Uint32Array.from(counter);
  philox(state, key0 as number, key1 as number);
  expect([...state]).toEqual(words);
});

it('draws numbers whose moments and neighbours are those of N(0, 1)', async () => {
  await useBackend('cpu');
  const key = tensor1d([12345, -678], 'int32');
  const [draws] = normalDrawsKernel({ key, first: tensor1d([3], 'int32') }, { sequences: 100, length: 1001 });
  const values = [...draws.dataSync()];
  const meanOf = (f: (x: number, i: number) => number) =>
    values.reduce((sum, x, i) => sum + f(x, i), 0) / values.length;
  // Each is within five standard errors of 100,100 independent draws.
  expect(Math.abs(meanOf((x) => x))).toBeLessThan(0.016);
  expect(Math.abs(meanOf((x) => x * x) - 1)).toBeLessThan(0.023);
  expect(Math.abs(meanOf((x) => x ** 4) - 3)).toBeLessThan(0.16);
  for (const lag of [1, 2, 3, 4, 1001]) {
    expect(Math.abs(meanOf((x, i) => x * (values[(i + lag) % values.length] as number)))).toBeLessThan(0.016);
  }
});
