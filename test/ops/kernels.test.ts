/** Every kernel of a fast backend against its composed definition, on random shapes. */
import { tensor } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { routerLogitsKernel } from '../../src/ops/router-logits.js';
import { FAST_BACKENDS, type TestBackend, useBackend } from '../support/backends.js';
import { randomTensor, randomValues } from '../support/numbers.js';
import {
  KERNEL_CASES,
  type KernelCase,
  largestError,
  outputsOn,
  reference,
  type Sizes,
  sizes,
} from './kernel-cases.js';

const casesOf = (names: RegExp) => KERNEL_CASES.filter(({ kernel }) => names.test(kernel.kernelName));

async function expectSame(backend: TestBackend, each: KernelCase, s: Sizes): Promise<void> {
  const expected = await reference(each, s);
  const actual = await outputsOn(() => useBackend(backend), each, s);
  // float32 sums in another order; indices and masks agree exactly, as any difference exceeds this bound.
  expect(largestError(actual, expected)).toBeLessThan(1e-5);
}

describe.each(FAST_BACKENDS)('a kernel of %s equals its composed definition', (backend) => {
  it.each(KERNEL_CASES.map((each, i) => ({ name: `${each.kernel.kernelName} ${i}`, each })))(
    '$name',
    async ({ each }) => {
      await fc.assert(
        fc.asyncProperty(sizes, (s) => expectSame(backend, each, s)),
        { numRuns: 12 },
      );
    },
  );

  it('gives equal tokens bit-identical router weights at every position', async () => {
    await useBackend(backend);
    for (const [tokens, width] of [
      [1, 8],
      [19, 24],
      [64, 64],
      [131, 30],
    ] as const) {
      const row = randomValues(width, 'equal tokens', width);
      const x = tensor(
        Float32Array.from({ length: tokens * width }, (_, i) => row[i % width] as number),
        [1, tokens, width],
      );
      const [r] = routerLogitsKernel({ x, weight: randomTensor([1, width], 'weight', width) }, {});
      expect(new Set(r.dataSync()).size).toBe(1);
    }
  });

  it('computes queries in several blocks, the last one of a single row', async () => {
    for (const each of casesOf(/^CausalAttention/)) {
      await expectSame(backend, each, { B: 1, T: 300, H: 2, K: 8, V: 2, k: 1, seed: 1 });
      await expectSame(backend, each, { B: 2, T: 129, H: 3, K: 34, V: 2, k: 1, seed: 1 });
    }
  });

  // wasm has one thread.
  it.skipIf(backend === 'wasm')('computes tensors that are divided among threads', async () => {
    for (const each of casesOf(/^(Gelu|RmsNorm|AddRmsNorm|Rotary(Grad)?$)/)) {
      await expectSame(backend, each, { B: 3, T: 15000, H: 2, K: 6, V: 2, k: 4000, seed: 1 });
    }
  });
});
