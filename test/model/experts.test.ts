/** Properties of experts: each token is processed at most once, no-ops and late tokens bypass them, no output looks ahead. */
import { memory, slice, tensor, tensor2d } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { addMlp, attentionHalf, denseBlock } from '../../src/model/block.js';
import {
  CAUSAL_MODES,
  type ExpertsConfig,
  expertChoices,
  expertSlots,
  type ModelConfig,
  type RoutingMode,
} from '../../src/model/config.js';
import { ExpertOccupancy } from '../../src/model/experts.js';
import { type BlockParameters, initialValues, type TensorSpec } from '../../src/model/parameters.js';
import { evaluationModes, modeProblem } from '../../src/model/routing-modes.js';
import { Transformer } from '../../src/model/transformer.js';
import { scope } from '../../src/ops/scope.js';
import { randomStream } from '../../src/random.js';
import { expertShares } from '../../src/train/expert-shares.js';
import { accumulateGradients } from '../../src/train/loss.js';
import { FAST_BACKENDS, TEST_BACKENDS, useBackend } from '../support/backends.js';
import { modelConfig } from '../support/model-config.js';
import { randomTensor, relativeError } from '../support/numbers.js';

const EXPERTS: ExpertsConfig = {
  count: 3,
  no_ops: 0,
  capacity_factor: 1,
  balance_loss_weight: 0.01,
  balance_no_ops: true,
};

const shapes = fc.record({
  heads: fc.integer({ min: 1, max: 3 }),
  half: fc.integer({ min: 1, max: 3 }),
  T: fc.integer({ min: 2, max: 24 }),
  count: fc.integer({ min: 1, max: 5 }),
  no_ops: fc.integer({ min: 0, max: 3 }),
  capacity_factor: fc.double({ min: 0.2, max: 2, noNaN: true }),
  seed: fc.nat(),
});
type Shape = typeof shapes extends fc.Arbitrary<infer S> ? S : never;

function config({ heads, half, T, ...own }: Shape, changes: Partial<ModelConfig> = {}): ModelConfig {
  const { count, no_ops, capacity_factor } = own;
  return modelConfig({
    d_model: 2 * heads * half,
    n_heads: heads,
    d_ff: 6 * heads * half,
    sequence_length: T,
    experts: { ...EXPERTS, count, no_ops, capacity_factor },
    ...changes,
  });
}

/** Weights far from initialisation, so that every path matters. */
const lively = (seed: number) => (spec: TensorSpec) =>
  initialValues(seed)(spec).map((value) => (spec.init.kind === 'normal' ? value * 15 : value));

/** The first block of a model, and an input for it. */
function firstBlock(model: Transformer, seed: number) {
  const { d_model, sequence_length } = model.config;
  const block = model.tree.blocks[0] as BlockParameters;
  const context = {
    tape: null,
    table: model.table,
    experts: model.expertsOf(0),
    residualMultiplier: 1,
  };
  return { block, context, x: randomTensor([2, sequence_length, d_model], seed, 'x') };
}

function tokens({ vocab_size, sequence_length }: ModelConfig, sequences: number, seed: number): Int32Array {
  const stream = randomStream(seed, 'tokens');
  return Int32Array.from({ length: sequences * sequence_length }, () => stream.bits() % vocab_size);
}

function logits(model: Transformer, ids: Int32Array, mode: RoutingMode = 'topk'): Float32Array {
  const T = model.config.sequence_length;
  return scope(() => {
    const batch = tensor2d(ids, [ids.length / T, T], 'int32');
    return model.forward(batch, { tape: null, mode, drawn: null }).logits.dataSync() as Float32Array;
  });
}

/** A model with the tensors that `from` returns, and drawn values where it returns null. */
function withTensors(
  model: ModelConfig,
  seed: number,
  from: (spec: TensorSpec) => Float32Array | null,
): Transformer {
  return new Transformer(model, (spec) => from(spec) ?? lively(seed)(spec));
}

describe.each(FAST_BACKENDS)('on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it('one expert with a slot for every token is the dense block', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const one = config({ ...shape, count: 1, no_ops: 0, capacity_factor: 1 });
        const model = withTensors(one, shape.seed, () => null);
        // The expert's matrices under the dense block's names.
        const dense = withTensors({ ...one, experts: null }, shape.seed, (spec) =>
          spec.name.includes('.mlp.')
            ? lively(shape.seed)({ ...spec, name: spec.name.replace('.mlp.', '.mlp.experts.0.') })
            : null,
        );
        const ids = tokens(one, 2, shape.seed);
        expect(relativeError(logits(model, ids), logits(dense, ids))).toBeLessThan(1e-5);
        model.dispose();
        dense.dispose();
      }),
      { numRuns: 20 },
    );
  });

  it('if every token chooses a no-op, a block is its attention, bit for bit', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const { count } = shape;
        const own = config({ ...shape, no_ops: shape.no_ops + 1 });
        const model = withTensors(own, shape.seed, () => null);
        scope(() => {
          const { block, context, x } = firstBlock(model, shape.seed);
          const half = attentionHalf(context, x, block, (qkv) => slice(qkv, [0, 0, 0], x.shape));
          const D = own.d_model;
          const positive = half.normed.dataSync().map((value) => Math.abs(value) + 0.5);
          const row = tensor(positive, half.normed.shape); // a router of ±1 separates experts and no-ops on it
          const choices = expertChoices(own.experts as ExpertsConfig);
          const router = tensor(
            Float32Array.from({ length: choices * D }, (_, i) => (Math.floor(i / D) < count ? -1 : 1)),
            [choices, D],
          );
          const chosen = {
            ...block,
            expertRouter: Object.assign(Object.create(block.expertRouter), { value: router }),
          };
          const { x: out, experts } = addMlp(context, half.middle, row, chosen, 0);
          expect(out.dataSync()).toEqual(half.middle.dataSync());
          const counts = experts?.counts.arraySync() as number[][];
          expect(
            counts
              .slice(0, count)
              .flat()
              .every((n) => n === 0),
          ).toBe(true);
        });
        model.dispose();
      }),
      { numRuns: 15 },
    );
  });

  it('the MLP does not change a token that no expert processes, bit for bit', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const model = withTensors(config(shape), shape.seed, () => null);
        const { count } = shape;
        scope(() => {
          const { block, context, x } = firstBlock(model, shape.seed);
          const half = attentionHalf(context, x, block, (qkv) => slice(qkv, [0, 0, 0], x.shape));
          const { x: out, experts } = addMlp(context, half.middle, half.normed, block, 0);
          const [after, before] = [out.dataSync(), half.middle.dataSync()];
          const [B, T, D] = x.shape as [number, number, number];
          const p = experts?.probabilities?.arraySync() as number[][][];
          const slots = expertSlots(model.config.experts as ExpertsConfig, T);
          let passed = 0;
          for (let b = 0; b < B; b++) {
            const filled = new Array<number>(count).fill(0);
            for (let t = 0; t < T; t++) {
              const row = p[b]?.[t] as number[];
              const choice = row.indexOf(Math.max(...row));
              const kept = choice < count && (filled[choice] as number) < slots;
              if (kept) filled[choice] = (filled[choice] as number) + 1;
              const at = (b * T + t) * D;
              const same = before.slice(at, at + D).every((value, d) => Object.is(value, after[at + d]));
              expect(same).toBe(!kept);
              if (!kept) passed += 1;
            }
          }
          // Conservation: every token is counted once, by an expert or among those that none processed.
          const counts = experts?.counts.arraySync() as number[][];
          const choices = count + shape.no_ops;
          const sum = (rows: number[][]) => rows.flat().reduce((a, n) => a + n, 0);
          expect(sum(counts.slice(0, choices))).toBe(B * T);
          expect(sum(counts.slice(choices))).toBe(B * T - passed);
          expect(Math.max(...counts.slice(choices).flat())).toBeLessThanOrEqual(slots);
        });
        model.dispose();
      }),
      { numRuns: 25 },
    );
  });

  it('experts in another order are the same model', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const own = config(shape);
        const { count } = shape;
        const moved = (e: number) => (e + 1) % count;
        const model = withTensors(own, shape.seed, () => null);
        const other = withTensors(own, shape.seed, (spec) => {
          const expert = /^(.*\.mlp\.experts\.)(\d+)(\..*)$/.exec(spec.name);
          if (expert !== null) {
            const [, head, e, tail] = expert;
            return lively(shape.seed)({ ...spec, name: `${head}${moved(Number(e))}${tail}` });
          }
          if (!spec.name.endsWith('.mlp.router.weight')) return null;
          const rows = lively(shape.seed)(spec);
          const D = own.d_model;
          return Float32Array.from(rows, (_, i) => {
            const row = Math.floor(i / D);
            return rows[(row < count ? moved(row) : row) * D + (i % D)] as number;
          });
        });
        const ids = tokens(own, 2, shape.seed);
        expect(relativeError(logits(other, ids), logits(model, ids))).toBeLessThan(1e-5);
        model.dispose();
        other.dispose();
      }),
      { numRuns: 15 },
    );
  });

  it.each(['topk', 'predictor'] as const)('no output depends on a later token: under %s', (mode) => {
    const routing = {
      frequency: 2,
      capacity: 0.5,
      router: 'learned' as const,
      gate: 'raw' as const,
      aux_loss_weight: 0,
      predictor_hidden: 4,
    };
    fc.assert(
      fc.property(shapes, fc.nat(), (shape, at) => {
        // Token choice is causal; routed blocks are causal if the predictor selects.
        const own = config(shape, mode === 'topk' ? {} : { routing });
        const model = withTensors(own, shape.seed, () => null);
        const t = at % (own.sequence_length - 1);
        const ids = tokens(own, 1, shape.seed);
        const changed = ids.map((id, i) => (i > t ? (id + 1 + (shape.seed % 9)) % own.vocab_size : id));
        const upTo = (t + 1) * own.vocab_size;
        const [before, after] = [ids, changed].map((each) => logits(model, each, mode).slice(0, upTo));
        expect(relativeError(after as Float32Array, before as Float32Array)).toBeLessThan(1e-5);
        model.dispose();
      }),
      { numRuns: 20 },
    );
  });

  it('slots are assigned in the same way on the host and on the device', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const model = withTensors(config(shape), shape.seed, () => null);
        scope(() => {
          const { block, context, x } = firstBlock(model, shape.seed);
          const [batch, T] = x.shape as [number, number];
          const { config: own, slots } = context.experts as NonNullable<typeof context.experts>;
          const rows = Array.from({ length: batch * T }, (_, i) => Math.floor(i / T));
          const onDevice = addMlp(context, x, x, block, 0);
          const onHost = addMlp(context, x, x, block, 0, () =>
            new ExpertOccupancy(own, slots, batch).assign(rows),
          );
          expect(onHost.experts?.counts.arraySync()).toEqual(onDevice.experts?.counts.arraySync());
          expect(relativeError(onHost.x.dataSync(), onDevice.x.dataSync())).toBeLessThan(1e-5);
        });
        model.dispose();
      }),
      { numRuns: 20 },
    );
  });

  it('a forward pass without a tape frees all but its results, a step all but the gradients', () => {
    const own = config({ heads: 2, half: 4, T: 16, count: 3, no_ops: 2, capacity_factor: 1, seed: 6 });
    const model = withTensors(own, 6, () => null);
    const ids = tokens(own, 3, 1);
    const before = memory().numTensors;
    logits(model, ids);
    expect(memory().numTensors).toBe(before);
    const metrics = accumulateGradients(model, { sequences: 3, inputs: ids, targets: ids }, null);
    const shares = expertShares(
      metrics.expertCounts?.dataSync() as Float32Array,
      own.experts as ExpertsConfig,
    );
    expect(shares.load.reduce((a, b) => a + b, 0) + (shares.noOp as number)).toBeCloseTo(1, 6);
    expect(shares.load).toEqual([...shares.load].sort((a, b) => b - a));
    metrics.loss.dispose();
    metrics.expertCounts?.dispose();
    expect(memory().numTensors).toBe(before + model.parameters.length);
    model.dispose();
  });
});

describe.each(TEST_BACKENDS)('the balance loss on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  /** Gradients by parameter name, of the total loss. */
  function gradients(experts: ExpertsConfig): Map<string, Float32Array> {
    const shape = { heads: 2, half: 2, T: 12, count: 3, no_ops: 1, capacity_factor: 1, seed: 3 };
    const own = config(shape, { experts });
    const model = withTensors(own, 3, () => null);
    const ids = tokens(own, 2, 5);
    const metrics = accumulateGradients(
      model,
      { sequences: 2, inputs: ids, targets: ids.toReversed() },
      null,
    );
    metrics.loss.dispose();
    metrics.expertCounts?.dispose();
    const found = new Map(model.parameters.map(({ name, grad }) => [name, grad?.dataSync() as Float32Array]));
    model.dispose();
    return found;
  }

  it('has gradients for the router and the trunk, and none for the experts of the last block', () => {
    const experts = { ...EXPERTS, no_ops: 1 };
    const without = gradients({ ...experts, balance_loss_weight: 0 });
    const trained = gradients({ ...experts, balance_loss_weight: 0.5 });
    for (const name of [
      'blocks.1.mlp.router.weight',
      'blocks.0.mlp.experts.up_proj.weight',
      'tok_embed.weight',
    ])
      expect(trained.get(name), name).not.toEqual(without.get(name));
    for (const name of ['blocks.1.mlp.experts.up_proj.weight', 'final_norm.weight'])
      expect(trained.get(name), name).toEqual(without.get(name));
  });
});

describe('slots', () => {
  it.each([
    [256, 4, 0, 1.25, 80],
    [256, 4, 4, 1.25, 40],
    [256, 8, 0, 1, 32],
    [10, 3, 0, 1, 4], // ceil(10 / 3)
    [10, 3, 0, 0.01, 1],
    [10, 2, 0, 3, 10], // no expert gets more tokens than there are
    [10, 1, 0, 1, 10],
  ])('of %i tokens, %i experts, %i no-ops and factor %d: %i', (n, count, no_ops, capacity_factor, slots) => {
    expect(expertSlots({ ...EXPERTS, count, no_ops, capacity_factor }, n)).toBe(slots);
  });

  it('of moe-reduced are those of mode-integrated', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4096 }),
        fc.integer({ min: 1, max: 64 }),
        fc.integer({ min: 1, max: 64 }),
        fc.integer({ min: 1, max: 40 }),
        (n, count, no_ops, twentieths) => {
          const factor = twentieths / 20;
          const reduced = { ...EXPERTS, count, capacity_factor: (factor * count) / (count + no_ops) };
          const integrated = { ...EXPERTS, count, no_ops, capacity_factor: factor };
          expect(expertSlots(reduced, n)).toBe(expertSlots(integrated, n));
        },
      ),
    );
  });
});

it('a model of experts without routing is evaluated in its training pass, which is causal, and accepts every mode', () => {
  const own = config({ heads: 1, half: 2, T: 8, count: 2, no_ops: 1, capacity_factor: 1, seed: 0 });
  expect(evaluationModes(own)).toEqual(['topk']);
  for (const mode of CAUSAL_MODES) expect(modeProblem(own, mode), mode).toBeNull();
});

it('a block with experts is not run without their config', async () => {
  await useBackend('cpu');
  const own = config({ heads: 1, half: 2, T: 8, count: 2, no_ops: 0, capacity_factor: 1, seed: 0 });
  const model = withTensors(own, 0, () => null);
  scope(() => {
    const { block, x } = firstBlock(model, 0);
    const stream = { x, branch: null };
    const without = { tape: null, table: model.table, residualMultiplier: 1 };
    expect(() => denseBlock(without, stream, 0, block)).toThrow('without their config');
  });
  model.dispose();
});
