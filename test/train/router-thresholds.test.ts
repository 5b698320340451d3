/** The running quantile of router weights: against sorting on the host, over micro-batches, guarded steps and checkpoints. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { scalar, tensor2d } from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CudaRecorder } from '../../src/backends/cuda/driver/recorder.js';
import { loadModel, modelFiles } from '../../src/checkpoint/model.js';
import type { Batch } from '../../src/data/batches.js';
import { openTokenFile } from '../../src/data/tokens.js';
import { InputError } from '../../src/errors.js';
import { evaluateCheckpoint } from '../../src/eval/targets.js';
import { readSafetensors, safetensorsParts } from '../../src/files/safetensors.js';
import { initialValues } from '../../src/model/parameters.js';
import { drawnWeights } from '../../src/model/routers.js';
import { Transformer } from '../../src/model/transformer.js';
import type { Recorder } from '../../src/ops/recording.js';
import { scope } from '../../src/ops/scope.js';
import { createOptimizer } from '../../src/train/optimizers.js';
import {
  correctedThresholds,
  createThresholds,
  type RouterThresholds,
  type ThresholdState,
} from '../../src/train/router-thresholds.js';
import { TrainingStep } from '../../src/train/step.js';
import { FAST_BACKENDS, useBackend } from '../support/backends.js';
import { useCuda } from '../support/cuda.js';
import { type ModelChanges, modelConfig } from '../support/model-config.js';

const SEQUENCES = 5;
const STEPS = 6;
const MODEL: ModelChanges = { n_layers: 4, routing: {} };

const batchAt = (step: number, length: number): Batch => {
  const tokens = Int32Array.from({ length: SEQUENCES * length + 1 }, (_, i) => ((i + 3 * step) * 7919) % 11);
  return { sequences: SEQUENCES, inputs: tokens.slice(0, -1), targets: tokens.slice(1) };
};

/** τ of each routed block, from sorted router weights. */
function taus(model: Transformer, batch: Batch, k: number): number[] {
  const length = model.config.sequence_length;
  return scope(() => {
    const tokens = tensor2d(batch.inputs, [SEQUENCES, length], 'int32');
    const drawn = drawnWeights(model.config, 0, 'training', 0, SEQUENCES);
    const { routed } = model.forward(tokens, { tape: null, mode: 'topk', drawn });
    return routed.map(({ r }) => {
      const rows = (r.arraySync() as number[][]).map((row) => row.sort((a, b) => b - a));
      const of = rows.map((row) => ((row[k - 1] as number) + (row[k] ?? Number.NEGATIVE_INFINITY)) / 2);
      return of.reduce((sum, tau) => sum + tau, 0) / rows.length;
    });
  });
}

interface Trained {
  thresholds: RouterThresholds | null;
  /** The recursion in float64, from sorted router weights. */
  expected: ThresholdState;
  model: Transformer;
  losses: number[];
}

async function trained(
  changes: ModelChanges,
  microBatchSequences: number,
  recorder: Recorder | null,
  records = true,
): Promise<Trained> {
  const config = modelConfig(changes);
  const model = new Transformer(config, initialValues(1));
  const optimizer = createOptimizer(model.parameters, { weightDecay: 0.1, gradientClip: 1 });
  const thresholds = records ? createThresholds(config, SEQUENCES) : null;
  const step = new TrainingStep({
    model,
    optimizer,
    batchSequences: SEQUENCES,
    microBatchSequences,
    seed: 0,
    recorder,
    thresholds,
  });
  const k = Math.floor((config.routing?.capacity ?? 1) * config.sequence_length + 0.5);
  let sums: number[] = [];
  const losses: number[] = [];
  for (let i = 0; i < STEPS; i++) {
    const batch = batchAt(i, config.sequence_length);
    const now = taus(model, batch, k);
    sums = now.map((tau, block) => 0.99 * (sums[block] ?? 0) + 0.01 * tau);
    losses.push((await step.run(batch, i * SEQUENCES, 1e-2)).loss);
  }
  step.dispose();
  optimizer.dispose();
  return { thresholds, expected: { sums, steps: STEPS }, model, losses };
}

describe.each(FAST_BACKENDS)('on %s', (backend) => {
  let recorders: (Recorder | null)[] = [null];
  beforeAll(async () => {
    await useBackend(backend);
    if (backend === 'cuda') recorders = [null, new CudaRecorder(await useCuda('fp32', true))];
  });

  it.each([SEQUENCES, 2, 1])(
    'equals that of sorted weights, with micro-batches of %i',
    async (microBatch) => {
      for (const recorder of recorders) {
        const { thresholds, expected, model } = await trained(MODEL, microBatch, recorder);
        const state = thresholds?.read() as ThresholdState;
        expect(state.steps).toBe(STEPS);
        expect(state.sums).toHaveLength(2);
        state.sums.forEach((sum, i) => {
          const reference = expected.sums[i] as number;
          // float32, in the forward pass of another batch size and in the recursion
          expect(Math.abs(sum - reference)).toBeLessThan(1e-5 * Math.abs(reference) + 1e-8);
        });
        const [first] = correctedThresholds(state) as [number];
        expect(first).toBeCloseTo((expected.sums[0] as number) / (1 - 0.99 ** STEPS), 5);
        thresholds?.dispose();
        model.dispose();
      }
    },
  );

  it('is -infinity where every token is selected', async () => {
    const { thresholds, model } = await trained({ routing: { frequency: 1, capacity: 1 } }, 2, null);
    const state = thresholds?.read() as ThresholdState;
    expect(state).toEqual({ sums: [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY], steps: STEPS });
    expect(correctedThresholds(state)).toEqual(state.sums);
    thresholds?.dispose();
    model.dispose();
  });

  it('is not changed by a step whose gradient norm is not finite', () => {
    const from = { sums: [0.25, -1.5], steps: 7 };
    const thresholds = createThresholds(modelConfig(MODEL), SEQUENCES, from) as RouterThresholds;
    for (const norm of [Number.NaN, Number.POSITIVE_INFINITY]) {
      scope(() => thresholds.update(scalar(norm)));
      expect(thresholds.read()).toEqual(from);
    }
    scope(() => thresholds.update(scalar(1))); // τ is 0: no sequence was observed
    expect(thresholds.read()).toEqual({
      sums: [0.25, -1.5].map((sum) => Math.fround(Math.fround(0.99) * sum)),
      steps: 8,
    });
    thresholds.dispose();
  });

  it('changes nothing else in the training, bit for bit', async () => {
    for (const recorder of recorders) {
      const [a, b] = [await trained(MODEL, 2, recorder), await trained(MODEL, 2, recorder, false)];
      expect(a.losses).toEqual(b.losses);
      a.model.parameters.forEach(({ value }, i) => {
        expect(value.dataSync()).toEqual(b.model.parameters[i]?.value.dataSync());
      });
      a.thresholds?.dispose();
      for (const { model } of [a, b]) model.dispose();
    }
  });
});

it('is kept for learned routers alone', () => {
  expect(createThresholds(modelConfig(), SEQUENCES)).toBeNull();
  const random = modelConfig({ routing: { router: 'random', predictor_hidden: 0 } });
  expect(createThresholds(random, SEQUENCES)).toBeNull();
  expect(correctedThresholds({ sums: [0, 0], steps: 0 })).toBeNull();
});

describe('a checkpoint', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mod-thresholds-'));
  const weights = join(folder, 'weights.safetensors');
  const NAMES = ['blocks.1.router.threshold', 'blocks.3.router.threshold'];
  beforeAll(() => useBackend('wasm'));
  afterAll(() => rmSync(folder, { recursive: true }));

  const write = (thresholds: number[] | null) => {
    const model = new Transformer(modelConfig(MODEL), initialValues(0));
    model.thresholds = thresholds;
    mkdirSync(folder, { recursive: true });
    for (const { name, parts } of modelFiles(model, null))
      writeFileSync(join(folder, name), Buffer.concat(parts));
    model.dispose();
  };
  const read = () => {
    const model = loadModel(folder);
    model.dispose();
    return model.thresholds;
  };
  /** Replaces or, with null, removes a tensor. */
  const edit = (name: string, value: number | null) => {
    const tensors = [...readSafetensors(weights).values()].filter((tensor) => tensor.name !== name);
    const added = { name, dtype: 'F32' as const, shape: [1], data: Float32Array.of(value ?? 0) };
    writeFileSync(weights, Buffer.concat(safetensorsParts(value === null ? tensors : [...tensors, added])));
  };

  it.each([[[0.5, -0.25]], [[Number.NEGATIVE_INFINITY, 1]]])('has the thresholds %j', (thresholds) => {
    write(thresholds);
    const tensors = readSafetensors(weights);
    expect(NAMES.map((name) => tensors.get(name)?.shape)).toEqual([[1], [1]]);
    expect(read()).toEqual(thresholds);
  });

  it('of an older version has none', () => {
    write(null);
    expect(readFileSync(weights, 'latin1')).not.toContain('threshold');
    expect(read()).toBeNull();
  });

  it('of an older version has no mode quantile, and says so; a newer one is evaluated in it', async () => {
    const tokens = join(folder, 'tokens.bin');
    writeFileSync(
      tokens,
      Uint16Array.from({ length: 40 }, (_, i) => (7 * i) % 11),
    );
    const evaluated = (routing?: 'quantile') =>
      evaluateCheckpoint(folder, () => openTokenFile(tokens, 2, 11), {
        routing,
        autoregressive: true,
        sequences: undefined,
        backend: {
          name: 'wasm',
          device: '',
          precision: 'fp32',
          memory: () => null,
          peakMemoryBytes: () => 0,
        },
        now: () => 0,
      });
    const modes = async () => (await evaluated()).map(({ row }) => row.routing);
    write(null);
    await expect(evaluated('quantile')).rejects.toThrow(InputError);
    await expect(evaluated('quantile')).rejects.toThrow(
      '--routing quantile: the checkpoint has no blocks.*.router.threshold',
    );
    expect(await modes()).toEqual(['topk', 'predictor']);
    write([Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]);
    expect(await modes()).toEqual(['topk', 'predictor', 'quantile']);
    expect((await evaluated('quantile'))[0]?.row.participation).toBe(1);
  });

  it.each<[string, number | null, string]>([
    ['missing', null, 'the tensor blocks.3.router.threshold is missing'],
    ['NaN', Number.NaN, 'the tensor blocks.3.router.threshold has the value NaN'],
    ['infinite', Number.POSITIVE_INFINITY, 'the tensor blocks.3.router.threshold has the value Infinity'],
  ])('with one threshold %s is refused', (_, value, message) => {
    write([0.5, 0.5]);
    edit(NAMES[1] as string, value);
    expect(read).toThrow(InputError);
    expect(read).toThrow(message);
  });
});
