/** Micro-batches change no result: their size is estimated, and halved when the device runs out of memory. */
import { memory, type Tensor } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { TrainingBatches } from '../../src/data/batches.js';
import type { TokenSource } from '../../src/data/token-source.js';
import { DeviceMemoryError } from '../../src/errors.js';
import { evenMicroBatch, microBatchSequences, microBatchSizes } from '../../src/model/memory.js';
import { initialValues } from '../../src/model/parameters.js';
import { type ForwardOptions, type ForwardResult, Transformer } from '../../src/model/transformer.js';
import type { RunSpec } from '../../src/plan/run.js';
import { createOptimizer } from '../../src/train/optimizers.js';
import { type StepReport, train } from '../../src/train/trainer.js';
import { useBackend } from '../support/backends.js';
import { modelConfig } from '../support/model-config.js';

const MODEL = modelConfig({ vocab_size: 32 });
const SPEC = {
  model: MODEL,
  batch_sequences: 8,
  steps: 10,
  seed: 0,
  training: { learning_rate: 1e-2 },
  evaluation: { every_steps: 0 },
} as RunSpec;

/** A model on a device with memory for `most` sequences, which fails in the middle of a pass with more. */
class TightModel extends Transformer {
  constructor(private readonly most: number) {
    super(MODEL, initialValues(0));
  }

  override forward(tokens: Tensor, options: ForwardOptions): ForwardResult {
    const result = super.forward(tokens, options);
    if (tokens.shape[0] > this.most) throw new DeviceMemoryError('out of GPU memory');
    return result;
  }
}

async function trained(most: number, microBatch: number) {
  const before = memory().numTensors;
  const model = new TightModel(most);
  const optimizer = createOptimizer(model.parameters, { weightDecay: 0.1, gradientClip: 1 });
  const source: TokenSource = {
    tokens: 4000,
    files: [],
    read: (start, out) => out.set(Array.from(out, (_, i) => ((start + i) * 7) % 31)),
    close: () => undefined,
  };
  const [reports, sizes]: [StepReport[], number[]] = [[], []];
  const outcome = await train({
    spec: SPEC,
    model,
    optimizer,
    batches: new TrainingBatches(source, MODEL.sequence_length, 0),
    microBatchSequences: microBatch,
    onMicroBatch: (sequences) => sizes.push(sequences),
    onStep: (report) => reports.push(report),
    heldoutLoss: () => Promise.reject(new Error('this run does not evaluate')),
    now: () => 0,
  });
  optimizer.dispose();
  model.dispose();
  return { outcome, reports, sizes, left: memory().numTensors - before };
}

describe('a device with too little memory', () => {
  beforeAll(() => useBackend('wasm'));

  it('trains on the same batches, fewer sequences at once, and leaks no tensors', async () => {
    const [tight, small] = [await trained(2, 8), await trained(8, 2)];
    expect(tight.sizes).toEqual([4, 2]);
    expect(tight.reports).toEqual(small.reports);
    expect(tight.reports.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(tight.left).toBe(0);
  });

  it('is an error if a single sequence does not fit', async () => {
    await expect(trained(0, 8)).rejects.toThrow(DeviceMemoryError);
  });
});

// 512·(9·(8·256 + 2·1024) + 256) values per sequence: 19.0 million; 6.4 million parameters. 512 MiB of four bytes each for wasm;
// for cuda 0.88 of a GPU's memory, less 18 bytes of each parameter, 16 in fp32. 256 sequences are split evenly.
it.each([
  ['wasm', 'fp32', null, 256, 7],
  ['cuda', 'bf16', 80 * 2 ** 30, 256, 256],
  ['cuda', 'bf16', 2 ** 30, 256, 20], // 21 fit: 13 micro-batches
  ['cuda', 'fp32', 2 ** 30, 256, 11],
  ['cuda', 'bf16', 10 * 2 ** 30, 256, 128], // 245 fit, and 245 and 11 are not equal
  ['cuda', 'bf16', 2 ** 20, 256, 1],
] as const)(
  '%s in %s with memory %j takes %i sequences %i at once',
  (name, precision, memoryBytes, batch, at) => {
    const model = { ...MODEL, d_model: 256, d_ff: 1024, n_layers: 8, sequence_length: 512, vocab_size: 256 };
    expect(microBatchSequences(model, batch, { name, precision, memoryBytes })).toBe(at);
  },
);

it('does not estimate from memory that is not a number', () => {
  const backend = { name: 'cuda', precision: 'bf16', memoryBytes: Number.NaN } as const;
  expect(() => microBatchSequences(MODEL, 8, backend)).toThrow(/not a number of bytes/);
  expect(() => microBatchSizes(8, Number.NaN)).toThrow(RangeError);
  expect(() => microBatchSizes(8, 0)).toThrow(RangeError);
});

it('splits every batch into the fewest micro-batches, as equal as they can be', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 1, max: 700 }), (batch, most) => {
      const sizes = microBatchSizes(batch, most);
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(batch);
      expect(sizes).toHaveLength(Math.ceil(batch / most));
      expect(Math.max(...sizes)).toBe(evenMicroBatch(batch, most));
      expect(Math.max(...sizes)).toBeLessThanOrEqual(most);
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
      expect(sizes[0]).toBe(Math.max(...sizes));
    }),
  );
});
