/** observeKernels: the calls that it reports, and their times. */
import { mul, type Tensor, tensor1d } from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { defineKernel, observeKernels } from '../../src/ops/kernel.js';
import { useBackend } from '../support/backends.js';

it('the time of a kernel excludes that of the kernels that it calls', async () => {
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
  const calls: [string, number][] = [];
  const started = performance.now();
  observeKernels(({ kernelName, milliseconds }) => calls.push([kernelName, milliseconds]));
  try {
    outer({ x: tensor1d([1]) }, {});
  } finally {
    observeKernels(null);
  }
  const total = performance.now() - started;
  expect(calls.map(([name]) => name)).toEqual(['TestInner', 'TestInner', 'TestOuter']);
  expect(calls[0]?.[1]).toBeGreaterThanOrEqual(40);
  expect(calls.reduce((sum, [, milliseconds]) => sum + milliseconds, 0)).toBeLessThanOrEqual(total);
});
