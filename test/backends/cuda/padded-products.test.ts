/** Products with a vocabulary that cuBLASLt's fast kernels cannot divide are those of the next one that they can. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { nameOf, type Product } from '../../../src/backends/cuda/driver/cublas.js';
import { paddedRows } from '../../../src/backends/cuda/driver/storage.js';
import { type FakeCuda, startFakeCuda } from '../../support/fake-cuda.js';
import { fakeTraining } from '../../support/fake-training.js';

it.each([
  [50257, 50304],
  [50304, 50304],
  [50264, 50264],
  [1025, 1088],
  [1023, 1023],
  [1, 1],
])('%i rows are padded to %i', (rows, padded) => {
  expect(paddedRows(rows)).toBe(padded);
});

describe('a step on the fake driver', () => {
  let started: FakeCuda | null = null;
  afterEach(() => started?.close());

  it.each(['d256l4t512b8v', 'd256l4t512b8vc0.125f2'])(
    '%s runs with GPT-2’s vocabulary the products of 50304 tokens, and copies no logits',
    async (form) => {
      const products: string[][] = [];
      const launches: string[] = [];
      const peaks: number[] = [];
      for (const vocabulary of [50257, 50304]) {
        started = await startFakeCuda();
        const { backend } = started;
        const names: string[] = [];
        const multiply = backend.cublas.multiply.bind(backend.cublas);
        vi.spyOn(backend.cublas, 'multiply').mockImplementation((product: Product, ...operands) => {
          names.push(nameOf(product));
          multiply(product, ...operands);
        });
        const launch = backend.launch.bind(backend);
        vi.spyOn(backend, 'launch').mockImplementation((file, name, ...rest) => {
          launches.push(name);
          launch(file, name, ...rest);
        });
        // Two micro-batches, so that the gradient is added to; the third step is recorded.
        const training = fakeTraining(started, form.replace('v', `v${vocabulary}`), 4);
        await training.run(3);
        training.dispose();
        products.push(names);
        peaks.push(backend.memoryUse().peak);
        started.close();
        started = null;
      }
      const [padded, whole] = products as [string[], string[]];
      expect(whole.length).toBeGreaterThan(100);
      expect(padded).toEqual(whole);
      expect(launches).toContain('crossEntropyGrad8');
      expect(launches).not.toContain('packRows');
      expect((peaks[0] as number) / (peaks[1] as number)).toBeCloseTo(1, 2);
    },
  );
});
