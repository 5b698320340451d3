/**
 * The golden cases of an independent PyTorch implementation in float64 (see README.md in this folder). In float32 the error
 * max|Δ| / max|reference| is below 1e-4 everywhere, and exactly the same tokens are selected.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { memory, type Tensor, tensor2d } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadModel, tensorsOf } from '../../src/checkpoint/model.js';
import type { Batch } from '../../src/data/batches.js';
import { readSafetensors } from '../../src/files/safetensors.js';
import { type CausalMode, ROUTING_MODES, type RoutingMode } from '../../src/model/config.js';
import type { Transformer } from '../../src/model/transformer.js';
import { scope } from '../../src/ops/scope.js';
import { accumulateGradients } from '../../src/train/loss.js';
import { createOptimizer } from '../../src/train/optimizers.js';
import { optimizerOptions, peakLearningRate } from '../../src/train/parametrization.js';
import { TEST_BACKENDS, useBackend } from '../support/backends.js';
import { relativeError } from '../support/numbers.js';
import { updateOnce } from '../support/optimizer.js';

const CASES = [
  'baseline',
  'mod-raw-f2',
  'mod-raw-f2-head64',
  'complete-mod-raw-f2',
  'mod-sigmoid-f1-aux-untied',
  'moe',
  'mode-staged',
  'mode-integrated',
];
const TOLERANCE = 1e-4;
/** AdamW steps. */
const STEPS = 10;
/**
 * In the first step of this case two equal tokens tie for the last selected place: one attends only to itself, the other to
 * both, and their values are equal except for rounding. cuda, and PyTorch's float64 on another machine (a difference of
 * 4e-16), select the other one than the fixture, and the loss is off by 1.3e-3. The selection on `tokens` is comparable.
 */
const TIED_ON_CUDA = 'mod-sigmoid-f1-aux-untied';

type OfModes = { [Name in `loss_lm_${CausalMode}`]?: number } & {
  [Name in `participation_${CausalMode}`]?: number[];
};

/** What `parametrization: complete` prescribes for a tensor of a checkpoint. */
interface TensorRules {
  init_std: number | null;
  rate_factor: number;
  weight_decay: number;
}

interface Expected extends OfModes {
  loss_lm: number;
  grad_norm: number;
  /** Of cases under `complete`: the base shape, and the rules by tensor. */
  base?: { d_model: number; n_layers: number; n_heads: number };
  rules?: Record<string, TensorRules>;
  'ten_steps_adamw_lr1e-3_wd0.1_clip1': { loss_lm: number; grad_norm: number }[];
}

function golden(name: string) {
  const folder = join('test/golden', name);
  const tensors = readSafetensors(join(folder, 'tensors.safetensors'));
  const read = (tensor: string) => {
    const found = tensors.get(tensor);
    if (found === undefined) throw new Error(`${name} has no tensor ${tensor}`);
    return found;
  };
  const expected = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8')) as Expected;
  return { folder, read, has: (tensor: string) => tensors.has(tensor), expected };
}

/** Rows of T+1 tokens as inputs and targets, shifted by one. */
function batchOf(rows: ArrayLike<number>, length: number): Batch {
  const sequences = rows.length / (length + 1);
  const pick = (shift: number) =>
    Int32Array.from({ length: sequences * length }, (_, i) => {
      const row = Math.floor(i / length);
      return rows[row * (length + 1) + (i % length) + shift] as number;
    });
  return { sequences, inputs: pick(0), targets: pick(1) };
}

function scalarOf(tensor: Tensor): number {
  const [value] = tensor.dataSync();
  tensor.dispose();
  return value as number;
}

/** The hyperparameters of the ten steps, as a run's spec has them. */
function trainingOf({ base }: Expected, model: Transformer, sequences: number) {
  const shape = base && {
    d_model: base.d_model,
    n_layers: base.n_layers,
    head_size: base.d_model / base.n_heads,
    batch_tokens: sequences * model.config.sequence_length,
  };
  const training = {
    learning_rate: 1e-3,
    weight_decay: 0.1,
    gradient_clip: 1,
    ...(shape && { base: shape }),
  };
  const unused = { micro_batch_sequences: null, deterministic: false };
  return { model: model.config, batch_sequences: sequences, training: { ...training, ...unused } };
}

const average = (values: Float32Array) => values.reduce((a, b) => a + b, 0) / values.length;

function forward(model: Transformer, batch: Batch, mode: RoutingMode) {
  return scope(() => {
    const shape: [number, number] = [batch.sequences, model.config.sequence_length];
    const { logits, routed, experts } = model.forward(tensor2d(batch.inputs, shape, 'int32'), {
      tape: null,
      mode,
      drawn: null,
    });
    return {
      logits: logits.dataSync(),
      selected: routed.map(({ indices }) => indices?.dataSync()),
      counts: experts.map(({ counts }) => counts.dataSync()),
      participation: routed.map(({ mask }) => average(mask.dataSync() as Float32Array)),
    };
  });
}

describe.each(TEST_BACKENDS)('on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  describe.each(CASES)('%s', (name) => {
    const { folder, read, has, expected } = golden(name);

    it('computes the logits and selects the tokens of the reference in every routing mode', () => {
      const model = loadModel(folder);
      const batch = batchOf(read('tokens').data, model.config.sequence_length);
      for (const mode of ROUTING_MODES) {
        if (!has(`logits_${mode}`)) continue;
        const { logits, selected, participation, counts } = forward(model, batch, mode);
        expect(relativeError(logits, read(`logits_${mode}`).data), mode).toBeLessThan(TOLERANCE);
        if (mode === 'topk') {
          expect(selected).toEqual(selected.map((_, j) => read(`selected.${j}`).data));
          expect(counts).toEqual(counts.map((_, i) => read(`expert_counts.${i}`).data));
        } else expect(participation).toEqual(expected[`participation_${mode}`]);
      }
      model.dispose();
    });

    it('computes the loss and every gradient of the reference, and leaks no tensor', () => {
      const model = loadModel(folder);
      const batch = batchOf(read('tokens').data, model.config.sequence_length);
      const before = memory().numTensors;
      const { loss, predictorAccuracy, expertCounts } = accumulateGradients(model, batch, null);
      predictorAccuracy?.dispose();
      expertCounts?.dispose();
      expect(Math.abs(scalarOf(loss) / expected.loss_lm - 1)).toBeLessThan(TOLERANCE);
      expect(memory().numTensors - before).toBe(model.parameters.length);
      let squares = 0;
      for (const parameter of model.parameters) {
        for (const { name: tensor, data } of tensorsOf(parameter, parameter.grad as Tensor)) {
          expect(relativeError(data, read(`grad.${tensor}`).data), tensor).toBeLessThan(TOLERANCE);
          squares += (data as Float32Array).reduce((sum, value) => sum + value * value, 0);
        }
      }
      expect(Math.abs(Math.sqrt(squares) / expected.grad_norm - 1)).toBeLessThan(TOLERANCE);
      model.dispose();
    });

    it('takes the AdamW steps of the reference, in micro-batches or not', () => {
      for (const microBatches of [1, 2]) {
        const model = loadModel(folder);
        const length = model.config.sequence_length;
        const { data, shape } = read('train_tokens');
        const training = trainingOf(expected, model, shape[1] as number);
        const optimizer = createOptimizer(model.parameters, optimizerOptions(training, model.tree.roles));
        const stepTokens = data.length / (shape[0] as number);
        const tied = backend === 'cuda' && name === TIED_ON_CUDA;
        for (let step = 0; step < (tied ? 0 : STEPS); step++) {
          const reference = expected['ten_steps_adamw_lr1e-3_wd0.1_clip1'][step];
          let loss = 0;
          for (let part = 0; part < microBatches; part++) {
            const size = stepTokens / microBatches;
            const start = step * stepTokens + part * size;
            const batch = batchOf(data.subarray(start, start + size), length);
            const metrics = accumulateGradients(model, batch, null, 1 / microBatches);
            metrics.predictorAccuracy?.dispose();
            metrics.expertCounts?.dispose();
            loss += scalarOf(metrics.loss) / microBatches;
          }
          const norm = scalarOf(updateOnce(optimizer, peakLearningRate(training)));
          expect(Math.abs(loss / (reference?.loss_lm ?? 0) - 1), `loss of step ${step}`).toBeLessThan(
            TOLERANCE,
          );
          const normError = Math.abs(norm / (reference?.grad_norm ?? 0) - 1);
          expect(normError, `norm of step ${step}`).toBeLessThan(TOLERANCE);
        }
        for (const parameter of model.parameters) {
          for (const { name: tensor, data: after } of tensorsOf(parameter, parameter.value)) {
            if (!has(`after.${tensor}`)) continue;
            const error = relativeError(after, read(`after.${tensor}`).data);
            expect(error, `${tensor} after the steps`).toBeLessThan(TOLERANCE);
          }
        }
        optimizer.dispose();
        model.dispose();
      }
    });
  });
});
