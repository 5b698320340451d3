/** Every kernel of the cuda backend against its composed definition, in float32 and in bf16, on odd and on wide shapes. */
import { mean, sum, tensor2d } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Precision } from '../../../src/backends/precisions.js';
import { decodeAttentionKernel } from '../../../src/ops/decode-attention.js';
import {
  inputsOf,
  KERNEL_CASES,
  type KernelCase,
  largestError,
  outputsOn,
  reference,
  type Sizes,
  sizes,
} from '../../ops/kernel-cases.js';
import { cuda, useCuda } from '../../support/cuda.js';
import { randomValues, relativeError } from '../../support/numbers.js';

/** float32 sums in another order; bf16 has eight bits of precision. Indices and masks agree exactly in both. */
const TOLERANCE = { fp32: 1e-5, bf16: 2e-2 } as const;

/** Heads that cuDNN supports and one that it does not, and lengths that are not multiples of a tile. */
const HEADS: Sizes[] = [
  { B: 2, T: 130, H: 3, K: 64, V: 1000, k: 40, seed: 2 },
  { B: 3, T: 77, H: 2, K: 32, V: 256, k: 33, seed: 3 },
  { B: 1, T: 200, H: 2, K: 128, V: 2056, k: 77, seed: 4 },
  { B: 2, T: 45, H: 2, K: 20, V: 2051, k: 11, seed: 5 },
];
/** Heads that cuDNN supports on some GPUs. */
const LARGE_HEADS: Sizes[] = [
  { B: 2, T: 100, H: 2, K: 192, V: 40, k: 31, seed: 15 },
  { B: 1, T: 70, H: 1, K: 256, V: 40, k: 19, seed: 16 },
];
/** More heads in a batch than a grid's second side has blocks. */
const MANY_HEADS: Sizes = { B: 33000, T: 2, H: 2, K: 2, V: 40, k: 1, seed: 17 };
/** More keys than a block of cached attention keeps scores of, twice over. */
const LONG_CACHE: Sizes = { B: 3, T: 9000, H: 2, K: 8, V: 40, k: 3, seed: 18 };
/** Each tiling of the norm's gradient, sorts of several blocks and passes, rows wider than a block. */
const WIDE: Sizes[] = [
  { B: 3, T: 37, H: 1, K: 320, V: 50, k: 9, seed: 6 },
  { B: 2, T: 21, H: 1, K: 192, V: 50, k: 9, seed: 13 },
  { B: 2, T: 21, H: 1, K: 448, V: 50, k: 9, seed: 14 },
  { B: 2, T: 9, H: 1, K: 768, V: 300, k: 5, seed: 7 },
  { B: 1, T: 19, H: 1, K: 1024, V: 20, k: 7, seed: 8 },
  { B: 1, T: 11, H: 1, K: 2048, V: 20, k: 3, seed: 9 },
  { B: 1, T: 7, H: 1, K: 2504, V: 20, k: 3, seed: 10 },
  { B: 3, T: 1100, H: 1, K: 16, V: 40, k: 130, seed: 11 },
  { B: 2, T: 2101, H: 1, K: 8, V: 300, k: 1500, seed: 12 },
];

const DECODE_ATTENTION = decodeAttentionKernel as unknown as KernelCase['kernel'];

/** The largest error in each precision. Inputs and reference, most of a test's time, are computed once for both. */
async function worstErrors(each: KernelCase, s: Sizes): Promise<Record<Precision, number>> {
  const inputs = await inputsOf(each, s);
  const expected = await reference(each, s, inputs);
  const errorIn = async (precision: Precision) =>
    largestError(await outputsOn(() => useCuda(precision), each, s, inputs), expected);
  return { fp32: await errorIn('fp32'), bf16: await errorIn('bf16') };
}

describe.skipIf(!cuda.usable)('a cuda kernel equals its composed definition', () => {
  it.each(KERNEL_CASES.map((each, i) => ({ name: `${each.kernel.kernelName} ${i}`, each })))(
    '$name',
    async ({ each }) => {
      const check = async (s: Sizes) => {
        const { fp32, bf16 } = await worstErrors(each, s);
        expect(fp32, `fp32 ${JSON.stringify(s)}`).toBeLessThan(TOLERANCE.fp32);
        expect(bf16, `bf16 ${JSON.stringify(s)}`).toBeLessThan(TOLERANCE.bf16);
      };
      const isAttention = /Attention(Grad)?$/.test(each.kernel.kernelName);
      for (const s of isAttention ? [...HEADS, ...LARGE_HEADS] : [...HEADS, ...WIDE]) await check(s);
      if (isAttention) await check(each.kernel === DECODE_ATTENTION ? LONG_CACHE : MANY_HEADS);
      await fc.assert(fc.asyncProperty(sizes, check), { numRuns: 12, seed: 1 });
    },
  );
});

it.skipIf(!cuda.usable)('sums rows of any length, and takes their mean', async () => {
  await useCuda('fp32');
  for (const width of [1, 4096, 4097, 20011]) {
    const values = randomValues(3 * width, 'rows', width).map((value) => value + 1);
    const rows = [0, 1, 2].map((row) =>
      values.subarray(row * width, (row + 1) * width).reduce((total, value) => total + value, 0),
    );
    const x = tensor2d(values, [3, width]);
    expect(relativeError(sum(x, 1).dataSync(), rows)).toBeLessThan(1e-5);
    const total = rows.reduce((all, row) => all + row, 0);
    expect(relativeError(mean(x).dataSync(), [total / (3 * width)])).toBeLessThan(1e-5);
  }
});
