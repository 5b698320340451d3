/** Under bf16 only the products of Linear have bfloat16 operands. */
import { afterAll, describe, expect, it } from 'vitest';
import type { Precision } from '../../../src/backends/precisions.js';
import { startTensorflow } from '../../../src/backends/tensorflow/start.js';
import { linearGradInputKernel, linearGradWeightKernel, linearKernel } from '../../../src/ops/linear.js';
import { routerLogitsKernel } from '../../../src/ops/router-logits.js';
import { tensorflowMissing } from '../../support/backends.js';
import { randomTensor, relativeError } from '../../support/numbers.js';

describe.skipIf(tensorflowMissing !== null)('precision on tensorflow', () => {
  const x = () => randomTensor([2, 9, 32], 'x');
  const weight = () => randomTensor([24, 32], 'weight');
  const dy = () => randomTensor([2, 9, 24], 'dy');
  const products = [
    () => linearKernel({ x: x(), weight: weight() }, { alpha: 1 })[0],
    () => linearGradInputKernel({ dy: dy(), weight: weight() }, { alpha: 1 })[0],
    () => linearGradWeightKernel({ dy: dy(), x: x(), gradAccum: undefined }, { alpha: 1 })[0],
  ];
  const logits = () => routerLogitsKernel({ x: x(), weight: randomTensor([1, 32], 'w') }, {})[0];
  const inPrecision = async (precision: Precision) => {
    await startTensorflow(precision);
    return { products: products.map((run) => run().dataSync()), logits: logits().dataSync() };
  };

  afterAll(() => startTensorflow('fp32'));

  it('is chosen when the backend starts', async () => {
    const exact = await inPrecision('fp32');
    const rounded = await inPrecision('bf16');
    rounded.products.forEach((values, i) => {
      const error = relativeError(values, exact.products[i] ?? []);
      // Operands are rounded by up to 2⁻⁹ each, their sums by 2⁻⁹ again; float32's own error is below 1e-6.
      expect(error).toBeGreaterThan(1e-5);
      expect(error).toBeLessThan(1e-2);
    });
    expect(rounded.logits).toEqual(exact.logits);
  });
});
