/** Rotary positions and attention of short sequences: separate and fused kernels equal the composed definition. */
import { afterEach, describe, expect, it } from 'vitest';
import type { ProductTuning } from '../../../src/backends/cuda/driver/tuning.js';
import { KERNEL_CASES, largestError, outputsOn, reference, type Sizes } from '../../ops/kernel-cases.js';
import { cuda, useCuda } from '../../support/cuda.js';

/** bf16 has eight bits of precision. */
const TOLERANCE = 2e-2;

const cases = KERNEL_CASES.filter(({ kernel }) => kernel.kernelName.startsWith('RotaryAttention'));

/** k tokens of T: one, a strip of 16 and one more, four warps' worth and one more, the longest; positions where seed is even. */
const SHAPES: Sizes[] = [
  { B: 2, T: 9, H: 2, K: 64, V: 2, k: 1, seed: 2 },
  { B: 1, T: 16, H: 1, K: 64, V: 2, k: 16, seed: 1 },
  { B: 3, T: 40, H: 2, K: 64, V: 2, k: 17, seed: 4 },
  { B: 2, T: 300, H: 5, K: 64, V: 2, k: 128, seed: 6 },
  { B: 1, T: 129, H: 2, K: 64, V: 2, k: 129, seed: 3 },
  { B: 1, T: 500, H: 1, K: 64, V: 2, k: 203, seed: 8 },
  { B: 1, T: 256, H: 2, K: 64, V: 2, k: 256, seed: 5 },
  { B: 2, T: 99, H: 2, K: 128, V: 2, k: 45, seed: 10 },
  { B: 1, T: 180, H: 1, K: 128, V: 2, k: 180, seed: 7 },
];

/** The backend, set to always run this variant. */
async function useVariant(variant: number) {
  const backend = await useCuda('bf16');
  backend.cublas.tuning = () =>
    ({
      fastestVariant: () => variant,
      fastestAlgorithm: (_, [first]) => first,
    }) as Partial<ProductTuning> as ProductTuning;
  return backend;
}

describe.skipIf(!cuda.usable).each([
  { name: 'separate', variant: 0 },
  { name: 'fused', variant: 1 },
])('$name', ({ variant }) => {
  afterEach(async () => {
    const backend = await useCuda('bf16');
    backend.cublas.tuning = () => null;
  });

  it.each(cases.flatMap((each) => SHAPES.map((s) => ({ name: each.kernel.kernelName, n: s.k, each, s }))))(
    '$name of $n tokens',
    async ({ each, s }) => {
      const expected = await reference(each, s);
      const actual = await outputsOn(() => useVariant(variant), each, s);
      expect(largestError(actual, expected)).toBeLessThan(TOLERANCE);
      expect(await outputsOn(() => useVariant(variant), each, s)).toEqual(actual); // sums are always in the same order
    },
  );
});
