/** The gradient of a weight in one product and in parts, whichever is faster: the same to the rounding of float32. */
import { afterAll, describe, expect, it } from 'vitest';
import type { ProductTuning } from '../../../src/backends/cuda/tuning.js';
import { linearGradWeightKernel } from '../../../src/ops/linear.js';
import { KERNEL_CASES, type KernelCase, outputsOn, reference, type Sizes } from '../../ops/kernel-cases.js';
import { cuda, useCuda } from '../../support/cuda.js';
import { relativeError } from '../../support/numbers.js';

const gradWeight = KERNEL_CASES.find(
  ({ kernel }) => kernel.kernelName === linearGradWeightKernel.kernelName,
) as KernelCase;

/** Operands are rounded to bf16, sums are float32. */
const TOLERANCE = 1e-2;
/** 128 parts of 512 rows; an even seed adds to a gradient, which is done in one. */
const SHAPE: Sizes = { B: 2, T: 32768, H: 1, K: 8, V: 2, k: 1, seed: 1 };

describe.skipIf(!cuda.usable)('of 65,536 rows', () => {
  afterAll(async () => {
    const backend = await useCuda('bf16');
    backend.cublas.tuning = () => null;
  });

  it.each([1, 2])('is the same in every way, seed %i', async (seed) => {
    const shape = { ...SHAPE, seed };
    const [expected] = await reference(gradWeight, shape);
    const offered: number[] = [];
    for (const way of [0, 1, 2, 3]) {
      const tuning: Partial<ProductTuning> = {
        quickest: (_, ways) => {
          offered.push(ways.length);
          return way;
        },
        fastest: (_, [first]) => first as Uint8Array,
      };
      const useWay = async () => {
        const backend = await useCuda('bf16');
        backend.cublas.tuning = () => tuning as ProductTuning;
      };
      const [actual] = await outputsOn(useWay, gradWeight, shape);
      expect(relativeError(actual?.values ?? [], expected?.values ?? [])).toBeLessThan(TOLERANCE);
    }
    expect(offered).toEqual(seed % 2 === 0 ? [] : [4, 4, 4, 4]);
  });
});
