/** The rules of `parametrization: complete`, against an independent implementation and against `standard` at the base shape. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { parseSweepFile } from '../../src/config/sweep-file.js';
import { initialValues, makeParameters, type TensorSpec } from '../../src/model/parameters.js';
import {
  type BaseShape,
  DEFAULT_BASE,
  multipliersOf,
  shapeScale,
  updateFactors,
  withMultipliers,
} from '../../src/model/parametrization.js';
import { Transformer } from '../../src/model/transformer.js';
import { expandSweep } from '../../src/plan/expand.js';
import { accumulateGradients } from '../../src/train/loss.js';
import { createOptimizer } from '../../src/train/optimizers.js';
import {
  batchScale,
  isFarFromBase,
  optimizerOptions,
  peakLearningRate,
} from '../../src/train/parametrization.js';
import { useBackend } from '../support/backends.js';
import { modelConfig } from '../support/model-config.js';
import { updateOnce } from '../support/optimizer.js';

beforeAll(() => useBackend('wasm'));

interface GoldenRules {
  base: { d_model: number; n_layers: number; n_heads: number };
  rules: Record<string, { init_std: number | null; rate_factor: number; weight_decay: number }>;
}

it('gives every tensor the deviation, rate and decay of the reference, and the model its multipliers', () => {
  const folder = 'test/golden/complete-mod-raw-f2';
  const { base, rules } = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8')) as GoldenRules;
  const { model } = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  const { residual_multiplier, logits_multiplier, attention_multiplier, ...shape } = model;
  const { d_model, n_layers, n_heads } = base;
  const own: BaseShape = { d_model, n_layers, head_size: d_model / n_heads, batch_tokens: 1 };
  expect(withMultipliers(shape, own)).toEqual(model);
  expect(multipliersOf(model)).toEqual({
    residual: residual_multiplier,
    logits: logits_multiplier,
    attention: attention_multiplier,
  });
  const specs = new Map<string, TensorSpec>();
  const scale = shapeScale(model, own);
  const record = (spec: TensorSpec) => {
    specs.set(spec.name, spec);
    return initialValues(0)(spec);
  };
  const { roles } = makeParameters(model, record, scale);
  const found = [...roles].flatMap(([{ tensorNames }, role]) => {
    const { rate, decay } = updateFactors(role, scale);
    return tensorNames.map((name) => {
      const init = specs.get(name)?.init;
      const init_std = init?.kind === 'normal' ? init.std : null;
      return [name, { init_std, rate_factor: rate, weight_decay: 0.1 * decay }] as const;
    });
  });
  expect(Object.keys(rules).sort()).toEqual(found.map(([name]) => name).sort());
  for (const [name, { init_std, rate_factor, weight_decay }] of found) {
    const rule = rules[name];
    expect(init_std ?? 0, name).toBeCloseTo(rule?.init_std ?? 0, 12);
    expect(rate_factor, name).toBeCloseTo(rule?.rate_factor ?? Number.NaN, 12);
    expect(weight_decay, name).toBeCloseTo(rule?.weight_decay ?? Number.NaN, 12);
  }
});

describe('at the base shape and batch', () => {
  const MODEL = modelConfig({
    vocab_size: 40,
    d_model: 16,
    n_layers: 2,
    n_heads: 2,
    d_ff: 64,
    sequence_length: 16,
    routing: { capacity: 0.25, predictor_hidden: 8 },
    experts: { count: 2 },
  });
  const BASE: BaseShape = { d_model: 16, n_layers: 2, head_size: 8, batch_tokens: 64 };

  it('complete gives the bits of standard: initial weights, multipliers and steps', () => {
    expect(withMultipliers(MODEL, BASE)).toEqual(MODEL);
    const weightsAfter = (base: BaseShape | null) => {
      const training = {
        ...(base && { parametrization: 'complete' as const, base }),
        learning_rate: 3e-3,
        weight_decay: 0.1,
        gradient_clip: 1,
        micro_batch_sequences: null,
        deterministic: false,
      };
      const spec = { model: MODEL, batch_sequences: 4, training };
      const model = new Transformer(MODEL, initialValues(3), shapeScale(MODEL, base));
      const optimizer = createOptimizer(model.parameters, optimizerOptions(spec, model.tree.roles));
      const tokens = Int32Array.from({ length: 4 * 16 }, (_, i) => (i * i) % 40);
      for (let step = 0; step < 3; step++) {
        const metrics = accumulateGradients(model, { sequences: 4, inputs: tokens, targets: tokens }, null);
        for (const tensor of Object.values(metrics)) tensor?.dispose();
        updateOnce(optimizer, peakLearningRate(spec)).dispose();
      }
      const weights = model.parameters.map(({ value }) => value.dataSync().slice());
      optimizer.dispose();
      model.dispose();
      return weights;
    };
    expect(weightsAfter(BASE)).toEqual(weightsAfter(null));
  });
});

it('scales rate, decay and β₂ with the batch, ε with the shape', () => {
  const model = modelConfig({ d_model: 512, n_layers: 16, n_heads: 8, sequence_length: 1024 });
  const training = {
    parametrization: 'complete' as const,
    base: DEFAULT_BASE,
    learning_rate: 3.5e-3,
    weight_decay: 0.1,
    gradient_clip: 1,
    micro_batch_sequences: null,
    deterministic: false,
  };
  const spec = { model, batch_sequences: 512, training };
  expect(batchScale(spec)).toBe(4);
  expect(peakLearningRate(spec)).toBe(7e-3);
  const { weightDecay, beta2, epsilon } = optimizerOptions(spec, new Map());
  expect([weightDecay, epsilon]).toEqual([0.2, 1e-8 / 4]);
  expect(beta2).toBe(0.9); // 0.95⁴ is 0.81
  expect(isFarFromBase(spec)).toBe(false);
  expect(isFarFromBase({ ...spec, batch_sequences: 513 })).toBe(true);
  expect(isFarFromBase({ ...spec, batch_sequences: 31 })).toBe(true);
});

describe('in a sweep file', () => {
  const FILE = `name: a
flop_budgets: [1e15]
data: {text: a, heldout_text: b}
model_sizes: [{d_model: 512, n_layers: 8}]
sequence_length: 1024
`;
  const runs = (training: string) => expandSweep(parseSweepFile('s.yaml', `${FILE}training: ${training}\n`));

  it('rates are numbers, multiples of the default, or auto', () => {
    const list = runs('{parametrization: complete, learning_rate: [0.7x, 1x, 1.4x, auto, 2e-3]}');
    expect(list.map(({ run_id, spec }) => [run_id, spec.training.learning_rate])).toEqual([
      ['1e15-baseline-d512l8-s0-learning_rate-0.7x', 2.45e-3],
      ['1e15-baseline-d512l8-s0-learning_rate-1x', 3.5e-3],
      ['1e15-baseline-d512l8-s0-learning_rate-1.4x', 4.9e-3],
      ['1e15-baseline-d512l8-s0-learning_rate-2e-3', 2e-3],
    ]);
    expect(() => runs('{learning_rate: 0.7x}')).toThrow(
      'training.learning_rate: found 0.7x; a multiple needs parametrization: complete',
    );
    expect(() => runs('{learning_rate: x}')).toThrow("found the text 'x'; allowed: auto, a number above 0");
  });

  it('standard leaves no trace in spec and hash, complete has its base and the multipliers', () => {
    const [none] = runs('{weight_decay: 0.1}');
    const [standard] = runs('{parametrization: standard, base: {d_model: 64}}');
    expect(standard).toEqual(none);
    const [complete] = runs('{parametrization: complete, base: {d_model: 128}, learning_rate: 1x}');
    expect(complete?.spec.training).toMatchObject({
      parametrization: 'complete',
      base: { ...DEFAULT_BASE, d_model: 128 },
    });
    expect(complete?.spec.model).toMatchObject({ logits_multiplier: 0.25 });
    expect(complete?.spec.model).not.toHaveProperty('residual_multiplier');
    expect(complete?.config_hash).not.toBe(none?.config_hash);
  });
});
