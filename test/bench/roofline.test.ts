/** The FLOPs and bytes behind a kernel's roofline time. */
import { type Tensor, zeros } from '@tensorflow/tfjs-core';
import { beforeAll, expect, it } from 'vitest';
import { productFlops, rooflineMs } from '../../src/bench/roofline.js';
import type { KernelInputs } from '../../src/ops/kernel.js';
import { useBackend } from '../support/backends.js';

beforeAll(() => useBackend('cpu'));

const call = (kernelName: string, inputs: KernelInputs, outputs: Tensor[], attrs: object = {}) => ({
  kernelName,
  inputs,
  attrs,
  outputs,
  milliseconds: 0,
});

it.each([
  // [2, 3, 5] by [7, 5]ᵀ
  ['Linear', { x: [2, 3, 5], weight: [7, 5] }, [2, 3, 7], {}, 2 * 6 * 5 * 7],
  ['LinearGradWeight', { dy: [2, 3, 7], x: [2, 3, 5] }, [7, 5], {}, 2 * 6 * 5 * 7],
  ['GroupedLinear', { x: [1, 12, 5], weight: [4 * 7, 5] }, [1, 12, 7], { experts: 4 }, 4 * 2 * 3 * 5 * 7],
  // Scores and values of [2, 16, 24] with causality halved; backward has five products where forward has two.
  ['RotaryAttention', { qkv: [2, 16, 72] }, [2, 16, 24], { heads: 3 }, 2 * (2 * 16 * 16 * 24)],
  ['RotaryAttentionGrad', { qkv: [2, 16, 72] }, [2, 16, 72], { heads: 3 }, 5 * (2 * 16 * 16 * 24)],
  ['RmsNorm', { x: [2, 3, 5], gain: [5] }, [2, 3, 5], {}, 0],
] as const)('%s has the FLOPs of its matrix products', (name, shapes, output, attrs, expected) => {
  const inputs = Object.fromEntries(Object.entries(shapes).map(([key, shape]) => [key, zeros([...shape])]));
  expect(productFlops(call(name, inputs, [zeros([...output])], attrs))).toBeCloseTo(expected, 6);
});

it('is the longer of compute and memory time, and counts only the rows read of a table', () => {
  const bytesOf = (tensor: Tensor) => 2 * tensor.size;
  const linear = call('Linear', { x: zeros([4, 8]), weight: zeros([16, 8]) }, [zeros([4, 16])]);
  expect(rooflineMs(linear, bytesOf, { flopsPerSecond: 1024, bytesPerSecond: 1e9 })).toBeCloseTo(1000, 6);
  expect(rooflineMs(linear, bytesOf, { flopsPerSecond: 1e9, bytesPerSecond: 448 })).toBeCloseTo(1000, 6);
  const gathered = call('GatherTokens', { x: zeros([1, 100, 8]), indices: zeros([1, 2]) }, [
    zeros([1, 2, 8]),
  ]);
  expect(rooflineMs(gathered, bytesOf, { flopsPerSecond: 1, bytesPerSecond: 68 })).toBeCloseTo(1000, 6);
});

it('counts only the changed rows of an in-place update', () => {
  const bytesOf = (tensor: Tensor) => 2 * tensor.size;
  const peak = { flopsPerSecond: 1, bytesPerSecond: 1000 };
  const [x, rows, indices] = [zeros([1, 100, 8]), zeros([1, 2, 8]), zeros([1, 2])];
  const inputs = { x, rows, indices };
  // In place: the rows, the target's rows before and after, and two indices. Otherwise all of x is read and written.
  expect(rooflineMs(call('GatedScatterAdd', inputs, [x.clone()]), bytesOf, peak)).toBeCloseTo(3 * 32 + 4, 6);
  expect(rooflineMs(call('GatedScatterAdd', inputs, [zeros(x.shape)]), bytesOf, peak)).toBeCloseTo(
    32 + 4 + 3200,
    6,
  );
});
