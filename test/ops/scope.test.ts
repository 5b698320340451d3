/** A scope keeps the tensors of its result and frees all others, without a visit to every number of the result. */
import { memory, type Tensor, tensor } from '@tensorflow/tfjs-core';
import { beforeAll, expect, it } from 'vitest';
import { scope } from '../../src/ops/scope.js';
import { useBackend } from '../support/backends.js';

beforeAll(() => useBackend('cpu'));

it('keeps tensors in arrays and objects, also those that are there twice', () => {
  const before = memory().numTensors;
  const result = scope(() => {
    const [a, b, c] = [tensor([1]), tensor([2]), tensor([3])];
    tensor([4]);
    return { a, list: [b, { c, again: a }], none: null, missing: undefined, values: Float32Array.of(5) };
  });
  expect(memory().numTensors - before).toBe(3);
  const [b, { c, again }] = result.list as [Tensor, { c: Tensor; again: Tensor }];
  expect([result.a, b, c, again].map((each) => each.dataSync()[0])).toEqual([1, 2, 3, 1]);
  expect(result.values[0]).toBe(5);
  for (const each of [result.a, b, c]) each.dispose();
  expect(memory().numTensors).toBe(before);
});

it('frees everything if its body throws', () => {
  const before = memory().numTensors;
  expect(() =>
    scope(() => {
      tensor([1]);
      throw new Error('an error');
    }),
  ).toThrow('an error');
  expect(memory().numTensors).toBe(before);
});

it('returns ten million numbers in less time than it takes to visit them', () => {
  const values = new Float32Array(10_000_000);
  const started = process.cpuUsage();
  expect(scope(() => [values])[0]).toBe(values);
  expect(process.cpuUsage(started).user / 1e3).toBeLessThan(100); // milliseconds; tfjs' tidy takes seconds
});
