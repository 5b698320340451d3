/** Initial values are those of the first version, bit for bit, however they are drawn: stored runs stay reproducible. */
import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { createDrawBoard, drawRound } from '../../src/model/normal-tasks.js';
import { initialValues } from '../../src/model/parameters.js';
import { randomStream, streamAfter } from '../../src/random.js';

/** Recorded when one thread drew each tensor from its first number to its last. */
it.each([
  [0, 'tok_embed.weight', [257, 16], '47cba73e9662b2f2'],
  [3, 'blocks.1.attn.q_proj.weight', [7, 9], 'e36a3cd9ae88fd8d'],
  [1, 'tok_embed.weight', [50257, 64], 'dfc6adba23365102'],
  [0, 'blocks.0.mlp.up_proj.weight', [4096, 4097], 'ab5ad5780cd45669'],
] as const)('of seed %i, %s, %j', (seed, name, shape, hash) => {
  const values = initialValues(seed)({ name, shape: [...shape], init: { kind: 'normal', std: 0.02 } });
  const digest = createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex');
  expect(digest.slice(0, 16)).toBe(hash);
});

it.each([0, 2, 8, 1022, 131_072])('a stream after %i numbers continues with the next one', (numbers) => {
  const stream = () => randomStream(7, 'skip');
  const all = new Float32Array(numbers + 11);
  stream().fillNormal(all, 0.5);
  const rest = new Float32Array(11);
  streamAfter(stream().state, numbers).fillNormal(rest, 0.5);
  expect(rest).toEqual(all.subarray(numbers));
});

it('a stream after 2^40 numbers equals one that skipped twice', () => {
  const half = streamAfter(randomStream(7, 'far').state, 2 ** 39);
  const whole = streamAfter(randomStream(7, 'far').state, 2 ** 40);
  expect(streamAfter(half.state, 2 ** 39).state).toEqual(whole.state);
});

it('a round without other threads draws all of its tasks', () => {
  const board = createDrawBoard();
  const length = 2 ** 17 + 5; // two tasks, the second odd
  const expected = new Float32Array(64 + length);
  randomStream(1, 'round').fillNormal(expected, 2);
  drawRound(board, randomStream(1, 'round').state, 2, 64, length);
  expect(board.out.slice(0, length)).toEqual(expected.slice(64));
});
