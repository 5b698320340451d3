/** Tensors of a vocabulary that is padded inside the backend, on a GPU: values, gradients, and what is read back. */
import { reshape, type Tensor, tensor, tensor2d, tidy } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { crossEntropyGradKernel, crossEntropyKernel } from '../../../src/ops/cross-entropy.js';
import { entropyKernel } from '../../../src/ops/entropy.js';
import { linearGradInputKernel, linearGradWeightKernel, linearKernel } from '../../../src/ops/linear.js';
import { randomStream } from '../../../src/random.js';
import { cuda, useCuda } from '../../support/cuda.js';

const [SEQUENCES, LENGTH, INNER, V] = [2, 48, 64, 1031];
const ROWS = SEQUENCES * LENGTH;
const ALPHA = { alpha: 0.5 };

function draw(label: string, shape: number[]): Tensor {
  const stream = randomStream(1, 'padded-rows', label);
  const size = shape.reduce((product, side) => product * side, 1);
  return tensor(
    Float32Array.from({ length: size }, () => (stream.bits() % 2001) / 1000 - 1),
    shape,
  );
}

/** Losses, entropies, logits and gradients of linear logits. */
function results(): Record<string, Float32Array> {
  const outputs = tidy((): Record<string, Tensor> => {
    const x = draw('x', [SEQUENCES, LENGTH, INNER]);
    const weight = draw('weight', [V, INNER]);
    const targets = tensor2d(
      Int32Array.from({ length: ROWS }, (_, i) => (i * 331) % V),
      [SEQUENCES, LENGTH],
      'int32',
    );
    const dlosses = draw('dlosses', [SEQUENCES, LENGTH]);
    const logits = () => linearKernel({ x, weight }, ALPHA)[0];
    const [losses, logSumExp] = crossEntropyKernel({ logits: logits(), targets }, {});
    const dlogits = () => crossEntropyGradKernel({ logits: logits(), targets, logSumExp, dlosses }, {})[0];
    const gradient = (gradAccum?: Tensor) =>
      linearGradWeightKernel({ dy: dlogits(), x, gradAccum }, ALPHA)[0];
    return {
      losses,
      entropies: entropyKernel({ logits: logits() }, {})[0],
      logits: logits(),
      reshaped: reshape(logits(), [ROWS * V]),
      dlogits: dlogits(),
      dx: linearGradInputKernel({ dy: dlogits(), weight }, ALPHA)[0],
      'gradient added to twice': gradient(gradient()),
      'gradient added to memory of its own size': gradient(draw('sum', [V, INNER])),
    };
  });
  return Object.fromEntries(
    Object.entries(outputs).map(([name, output]) => [name, output.dataSync() as Float32Array]),
  );
}

describe.skipIf(!cuda.usable)('a vocabulary of 1031', () => {
  it('in bf16 has the values of float32 to its rounding', async () => {
    await useCuda('fp32');
    const exact = results();
    await useCuda('bf16');
    const rounded = results();
    for (const [name, values] of Object.entries(exact)) {
      const actual = rounded[name] as Float32Array;
      expect(actual.length, name).toBe(values.length);
      const scale = Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / values.length);
      const errors = values.map((value, i) => Math.abs(value - (actual[i] as number)));
      // 8 bits of fraction, and logits that differ by as much inside an exponential.
      expect(Math.max(...errors) / scale, name).toBeLessThan(0.15);
    }
  });
});
