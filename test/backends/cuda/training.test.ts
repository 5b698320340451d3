/** Training on cuda: bf16 follows float32, deterministic gives the same bits, and memory does not leak. */
import { memory, type Tensor, tensor, tidy } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { CudaRecorder } from '../../../src/backends/cuda/driver/recorder.js';
import type { Precision } from '../../../src/backends/precisions.js';
import type { Batch } from '../../../src/data/batches.js';
import type { ExpertsConfig, RouterName } from '../../../src/model/config.js';
import { initialValues } from '../../../src/model/parameters.js';
import { Transformer } from '../../../src/model/transformer.js';
import { causalAttentionGradKernel, causalAttentionKernel } from '../../../src/ops/causal-attention.js';
import { randomStream } from '../../../src/random.js';
import { createOptimizer } from '../../../src/train/optimizers.js';
import { TrainingStep } from '../../../src/train/step.js';
import { cuda, useCuda } from '../../support/cuda.js';
import { trainAndEvaluate } from '../../support/evaluated-training.js';
import { modelConfig } from '../../support/model-config.js';

const MODEL = modelConfig({
  vocab_size: 256,
  d_model: 128,
  n_layers: 4,
  sequence_length: 128,
  routing: { predictor_hidden: 32 },
});
const SEQUENCES = 8;
/** With no-ops, and fewer slots than tokens. */
const EXPERTS: ExpertsConfig = {
  count: 4,
  no_ops: 2,
  capacity_factor: 1,
  balance_loss_weight: 0.01,
  balance_no_ops: true,
};

/** Tokens that can be learned: three of four follow from the token before them. */
function batch(step: number): Batch {
  const stream = randomStream(1, 'training-test', step);
  const length = MODEL.sequence_length;
  const inputs = new Int32Array(SEQUENCES * length);
  const targets = new Int32Array(SEQUENCES * length);
  for (let s = 0; s < SEQUENCES; s++) {
    let token = stream.bits() % 256;
    for (let t = 0; t < length; t++) {
      inputs[s * length + t] = token;
      token = stream.bits() % 4 === 0 ? stream.bits() % 256 : (token * 5 + 17) % 256;
      targets[s * length + t] = token;
    }
  }
  return { sequences: SEQUENCES, inputs, targets };
}

interface TrainingSettings {
  precision: Precision;
  steps: number;
  deterministic?: boolean;
  recorded?: boolean;
  microBatch?: number;
  router?: RouterName;
  /** Experts in every block. */
  experts?: boolean;
}

/** Losses of the first steps, and a parameter at their end. */
async function train(settings: TrainingSettings) {
  const { precision, steps, deterministic = false, recorded = false, microBatch, router } = settings;
  const backend = await useCuda(precision, deterministic);
  const routing = MODEL.routing === null ? null : { ...MODEL.routing, router: router ?? 'learned' };
  const model = new Transformer(
    { ...MODEL, routing, experts: settings.experts ? EXPERTS : null },
    initialValues(3),
  );
  const optimizer = createOptimizer(model.parameters, { weightDecay: 0.1, gradientClip: 1 });
  const step = new TrainingStep({
    model,
    optimizer,
    batchSequences: SEQUENCES,
    microBatchSequences: microBatch ?? SEQUENCES,
    seed: 0,
    recorder: recorded ? new CudaRecorder(backend) : null,
  });
  const losses: number[] = [];
  let tensors = 0;
  for (let i = 0; i < steps; i++) {
    losses.push((await step.run(batch(i), i * SEQUENCES, 1e-3)).loss);
    if (i === 3) tensors = memory().numTensors;
  }
  const leaked = memory().numTensors - tensors;
  const [embedding] = model.parameters;
  const weights = embedding?.value.dataSync() as Float32Array;
  step.dispose();
  optimizer.dispose();
  model.dispose();
  return { losses, weights, leaked, inUse: backend.memoryUse().current };
}

const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

describe.skipIf(!cuda.usable)('training on cuda', () => {
  it('in bf16 follows float32 over 200 steps', async () => {
    const [wide, narrow] = [
      await train({ precision: 'fp32', steps: 200 }),
      await train({ precision: 'bf16', steps: 200, recorded: true }),
    ];
    expect(mean(wide.losses.slice(-20))).toBeLessThan(0.8 * (wide.losses[0] as number));
    for (let from = 0; from < 200; from += 20) {
      const [a, b] = [wide.losses, narrow.losses].map((losses) => mean(losses.slice(from, from + 20)));
      // Top-k routing is chaotic, so runs differ in single steps; means of twenty stay within 2 %.
      expect(Math.abs((b as number) / (a as number) - 1), `steps ${from} to ${from + 20}`).toBeLessThan(0.02);
    }
    expect(wide.leaked + narrow.leaked).toBe(0);
  });

  it('with experts, in bf16, follows float32 over 100 steps', async () => {
    const [wide, narrow] = [
      await train({ precision: 'fp32', steps: 100, experts: true }),
      await train({ precision: 'bf16', steps: 100, experts: true, recorded: true }),
    ];
    for (let from = 0; from < 100; from += 20) {
      const [a, b] = [wide.losses, narrow.losses].map((losses) => mean(losses.slice(from, from + 20)));
      // As above; a token's expert flips too if two have close logits.
      expect(Math.abs((b as number) / (a as number) - 1), `steps ${from} to ${from + 20}`).toBeLessThan(0.02);
    }
    expect(wide.leaked + narrow.leaked).toBe(0);
  });

  it.each(['fp32', 'bf16'] as const)(
    'in %s gives the same bits again if deterministic',
    async (precision) => {
      const settings = { precision, steps: 20, deterministic: true };
      const [once, again] = [await train(settings), await train(settings)];
      expect(again.losses).toEqual(once.losses);
      expect(again.weights).toEqual(once.weights);
    },
  );

  it.each([
    { precision: 'bf16', microBatch: 8, router: 'learned' },
    { precision: 'bf16', microBatch: 8, router: 'learned', experts: true },
    { precision: 'fp32', microBatch: 3, router: 'learned', experts: true },
    { precision: 'fp32', microBatch: 3, router: 'learned' },
    { precision: 'bf16', microBatch: 4, router: 'random' },
  ] as const)(
    'gives the same bits recorded as op by op: $precision, micro-batch $microBatch, $router, experts $experts',
    async (settings: Omit<TrainingSettings, 'steps'>) => {
      const plainSettings = { ...settings, steps: 8, deterministic: true };
      const [plain, recorded] = [
        await train(plainSettings),
        await train({ ...plainSettings, recorded: true }),
      ];
      expect(recorded.losses).toEqual(plain.losses);
      expect(recorded.weights).toEqual(plain.weights);
      expect(recorded.leaked).toBe(0);
    },
  );

  it('with too little memory evaluates and ends, with smaller micro-batches', async () => {
    const backend = await useCuda('bf16');
    backend.device.trim();
    // 16 sequences need about 0.9 GiB for their logits alone.
    const config = modelConfig({
      vocab_size: 50257,
      d_model: 256,
      n_layers: 4,
      n_heads: 4,
      sequence_length: 512,
    });
    backend.driver.memoryLimit = 1.25 * 2 ** 30;
    const model = new Transformer(config, initialValues(0));
    try {
      const { microBatches, losses } = await trainAndEvaluate(backend, model, 16, 16);
      expect(microBatches.length).toBeGreaterThan(1);
      expect(losses).toHaveLength(3);
      for (const loss of losses) expect(Number.isFinite(loss)).toBe(true);
      expect(backend.memoryUse().reserved).toBeLessThan(backend.driver.memoryLimit);
    } finally {
      backend.driver.memoryLimit = Number.POSITIVE_INFINITY;
      model.dispose();
    }
  });

  it.each([
    ['in parts of a batch', 4, 8192],
    ['by own kernels', 1, 24576],
  ])('has the same gradients of attention of long sequences if deterministic, %s', async (_, batch, n) => {
    const [heads, size] = [4, 64];
    const draw = (columns: number): Tensor => {
      const values = new Float32Array(batch * n * columns);
      let state = columns;
      for (let i = 0; i < values.length; i++) {
        state = (Math.imul(state, 1_103_515_245) + 12_345) | 0;
        values[i] = state / 2 ** 31;
      }
      return tensor(values, [batch, n, columns]);
    };
    const gradients = async (deterministic: boolean) => {
      await useCuda('bf16', deterministic);
      const values = tidy(() => {
        const [qkv, dout] = [draw(3 * heads * size), draw(heads * size)];
        const [out, logSumExp] = causalAttentionKernel({ qkv }, { heads });
        return causalAttentionGradKernel({ qkv, out, logSumExp, dout }, { heads })[0];
      });
      const read = (await values.data()) as Float32Array;
      values.dispose();
      return read;
    };
    const [fast, exact] = [await gradients(false), await gradients(true)];
    let [difference, largest] = [0, 0];
    for (let i = 0; i < fast.length; i++) {
      difference = Math.max(difference, Math.abs((fast[i] as number) - (exact[i] as number)));
      largest = Math.max(largest, Math.abs(exact[i] as number));
    }
    // Both round the scores' gradients to bf16, at different places.
    expect(difference / largest).toBeLessThan(0.02);
  });
});
