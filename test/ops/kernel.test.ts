/** What an observer of kernels is told. */
import { mul, type Tensor, tensor1d } from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { defineKernel, observeKernels } from '../../src/ops/kernel.js';
import { useBackend } from '../support/backends.js';

it('a kernel that runs others is told of without their time', async () => {
  await useBackend('cpu');
  const wait = (milliseconds: number) => {
    const end = performance.now() + milliseconds;
    while (performance.now() < end);
  };
  const inner = defineKernel('TestInner', ({ x }: { x: Tensor }, _: object): [Tensor] => {
    wait(40);
    return [mul(x, 2)];
  });
  const outer = defineKernel('TestOuter', ({ x }: { x: Tensor }, _: object): [Tensor] => {
    const [once] = inner({ x }, {});
    return inner({ x: once }, {});
  });
  const told: [string, number][] = [];
  const started = performance.now();
  observeKernels(({ kernelName, milliseconds }) => told.push([kernelName, milliseconds]));
  try {
    outer({ x: tensor1d([1]) }, {});
  } finally {
    observeKernels(null);
  }
  const total = performance.now() - started;
  expect(told.map(([name]) => name)).toEqual(['TestInner', 'TestInner', 'TestOuter']);
  expect(told[0]?.[1]).toBeGreaterThanOrEqual(40);
  expect(told.reduce((sum, [, milliseconds]) => sum + milliseconds, 0)).toBeLessThanOrEqual(total);
});
