/** Properties of any model: exact routing, causality, and which parameters each loss trains. */
import { memory, onesLike, type Tensor, tensor2d, zerosLike } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { denseBlock, routedBlock } from '../../src/model/block.js';
import {
  CAUSAL_MODES,
  type ModelConfig,
  ROUTER_NAMES,
  ROUTING_MODES,
  type RoutingConfig,
  type RoutingMode,
  routedBlocks,
  selectedTokens,
} from '../../src/model/config.js';
import { type BlockParameters, initialValues, makeParameters } from '../../src/model/parameters.js';
import { drawnWeights, ROUTERS } from '../../src/model/routers.js';
import {
  causalModes,
  evaluationModes,
  modeProblem,
  weightsModes,
  weightsProblem,
} from '../../src/model/routing-modes.js';
import { type Stream, sumOf } from '../../src/model/stream.js';
import { Transformer } from '../../src/model/transformer.js';
import { GATE_NAMES } from '../../src/ops/gates.js';
import { rotaryTable } from '../../src/ops/rotary.js';
import { scope } from '../../src/ops/scope.js';
import { randomStream } from '../../src/random.js';
import { accumulateGradients } from '../../src/train/loss.js';
import { FAST_BACKENDS, useBackend } from '../support/backends.js';
import { modelConfig } from '../support/model-config.js';
import { randomTensor, relativeError } from '../support/numbers.js';

interface Shape {
  heads: number;
  half: number;
  T: number;
  layers: number;
  capacity: number;
  seed: number;
}

const shapes = fc.record({
  heads: fc.integer({ min: 1, max: 3 }),
  half: fc.integer({ min: 1, max: 4 }),
  T: fc.integer({ min: 2, max: 24 }),
  layers: fc.integer({ min: 2, max: 4 }),
  capacity: fc.double({ min: 0.05, max: 0.95, noNaN: true }),
  seed: fc.nat(),
});

function config(shape: Shape, routing: Partial<RoutingConfig> | null = {}): ModelConfig {
  const { heads, half, T, layers, capacity } = shape;
  const k = Math.max(capacity, 0.6 / T); // at least one token
  return modelConfig({
    d_model: 2 * heads * half,
    n_layers: layers,
    n_heads: heads,
    sequence_length: T,
    routing: routing === null ? null : { capacity: k, ...routing },
  });
}

/** Weights far from initialisation, so that every path matters. */
const lively = (seed: number) => (spec: Parameters<ReturnType<typeof initialValues>>[0]) =>
  initialValues(seed)({
    ...spec,
    init: spec.init.kind === 'zeros' ? { kind: 'normal', std: 0.3 } : spec.init,
  }).map((value) => (spec.init.kind === 'normal' ? value * 15 : value));

/** Thresholds for the mode `quantile`, other ones in each routed block. */
function withThresholds(model: Transformer): Transformer {
  model.thresholds = routedBlocks(model.config).map((_, i) => (i % 2 === 0 ? 0.2 : -0.3));
  return model;
}

function tokens(model: ModelConfig, sequences: number, seed: number): Int32Array {
  const stream = randomStream(seed, 'tokens');
  return Int32Array.from(
    { length: sequences * model.sequence_length },
    () => stream.bits() % model.vocab_size,
  );
}

function logits(
  model: Transformer,
  ids: Int32Array,
  mode: RoutingMode,
): { logits: Float32Array; masks: Float32Array[] } {
  return scope(() => {
    const T = model.config.sequence_length;
    const sequences = ids.length / T;
    const drawn = drawnWeights(model.config, 0, 'heldout', 0, sequences);
    const result = model.forward(tensor2d(ids, [sequences, T], 'int32'), { tape: null, mode, drawn });
    return {
      logits: result.logits.dataSync() as Float32Array,
      masks: result.routed.map(({ mask }) => mask.dataSync() as Float32Array),
    };
  });
}

/** A single routed block, its input and the table of positions. */
function loneBlock(shape: Shape, routing: Partial<RoutingConfig>) {
  const model = config({ ...shape, layers: 1 }, { frequency: 1, predictor_hidden: 0, ...routing });
  const [block] = makeParameters(model, lively(shape.seed)).blocks as [BlockParameters];
  const x = randomTensor([2, model.sequence_length, model.d_model], shape.seed, 'x');
  const table = rotaryTable(model.sequence_length + 1, model.d_model / model.n_heads);
  return { model, block, x, table, routing: model.routing as RoutingConfig };
}

describe.each(FAST_BACKENDS)('on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  const whole = (x: Tensor): Stream => ({ x, branch: null });

  describe('a routed block', () => {
    it('selects exactly k tokens of every sequence, in ascending order, those of the largest weights', () => {
      fc.assert(
        fc.property(shapes, (shape) => {
          scope(() => {
            const { model, block, x, table, routing } = loneBlock(shape, {});
            const { trace } = routedBlock(
              { model, tape: null, table, routing, mode: 'topk', drawn: null, residualMultiplier: 1 },
              whole(x),
              0,
              block,
            );
            const k = selectedTokens(routing.capacity, model.sequence_length);
            const [r, indices] = [
              trace.r.arraySync() as number[][],
              trace.indices?.arraySync() as number[][],
            ];
            r.forEach((weights, b) => {
              const chosen = indices[b] as number[];
              expect(chosen).toHaveLength(k);
              expect(chosen).toEqual([...new Set(chosen)].sort((left, right) => left - right));
              const least = Math.min(...chosen.map((t) => weights[t] as number));
              const others = weights.filter((_, t) => !chosen.includes(t));
              expect(Math.max(...others, Number.NEGATIVE_INFINITY)).toBeLessThanOrEqual(least);
            });
          });
        }),
        { numRuns: 30 },
      );
    });

    it('does not change skipped tokens, bit for bit', () => {
      fc.assert(
        fc.property(shapes, fc.constantFrom(...GATE_NAMES), (shape, gate) => {
          scope(() => {
            const { block, x, table, routing, model } = loneBlock(shape, { gate });
            const context = {
              model,
              tape: null,
              table,
              routing,
              mode: 'topk',
              drawn: null,
              residualMultiplier: 1,
            } as const;
            const before = x.dataSync().slice(); // the block may overwrite x
            const { stream, trace } = routedBlock(context, whole(x), 0, block);
            const after = sumOf(null, stream).dataSync();
            const mask = trace.mask.dataSync();
            const D = model.d_model;
            mask.forEach((selected, token) => {
              if (selected === 1) return;
              expect(after.slice(token * D, (token + 1) * D)).toEqual(
                before.slice(token * D, (token + 1) * D),
              );
            });
          });
        }),
        { numRuns: 30 },
      );
    });

    it('is the identity where the gate is 0, and the dense block at capacity 1 and gate 1', () => {
      fc.assert(
        fc.property(shapes, (shape) => {
          scope(() => {
            const { model, block, x, table, routing } = loneBlock(
              { ...shape, capacity: 1 },
              { router: 'random' },
            );
            const [batch, T] = x.shape as [number, number];
            const before = x.dataSync().slice(); // a routed block may overwrite x
            const at = (weights: (like: Tensor) => Tensor) => {
              const { stream } = routedBlock(
                {
                  model,
                  residualMultiplier: 1,
                  tape: null,
                  table,
                  routing: { ...routing, capacity: 1 },
                  mode: 'topk',
                  drawn: () => weights(tensor2d(new Float32Array(batch * T), [batch, T])),
                },
                whole(x),
                0,
                block,
              );
              return sumOf(null, stream).dataSync();
            };
            const dense = denseBlock({ tape: null, table, residualMultiplier: 1 }, whole(x), 0, block);
            expect(at(zerosLike)).toEqual(before);
            expect(relativeError(at(onesLike), sumOf(null, dense.stream).dataSync())).toBeLessThan(1e-5);
          });
        }),
        { numRuns: 20 },
      );
    });
  });

  describe('routers', () => {
    it('of different layers differ', () => {
      const model = new Transformer(
        config({ heads: 2, half: 4, T: 24, layers: 4, capacity: 0.3, seed: 1 }),
        initialValues(1),
      );
      const { masks } = logits(model, tokens(model.config, 2, 3), 'topk');
      expect(masks).toHaveLength(2);
      expect(masks[0]).not.toEqual(masks[1]);
      model.dispose();
    });

    const drawing = ROUTER_NAMES.filter((router) => ROUTERS[router].draws !== null);
    it.each(drawing)('%s draws the same weights for a sequence in any batch', (router) => {
      const shape = { heads: 2, half: 2, T: 16, layers: 2, capacity: 0.25, seed: 4 };
      const model = config(shape, { router, predictor_hidden: 0 });
      const drawn = drawnWeights(model, 7, 'training', 10, 4)?.(1).dataSync();
      const later = drawnWeights(model, 7, 'training', 12, 2)?.(1).dataSync();
      expect(drawn?.slice(32)).toEqual(later);
      expect(drawnWeights(model, 7, 'training', 10, 4)?.(0).dataSync()).not.toEqual(drawn);
    });

    it.each(ROUTER_NAMES)(
      '%s gives finite logits in the training pass and in each of its modes',
      (router) => {
        const shape = { heads: 2, half: 2, T: 16, layers: 2, capacity: 0.25, seed: 4 };
        const predictor_hidden = ROUTERS[router].learns ? 4 : 0;
        const model = withThresholds(new Transformer(config(shape, { router, predictor_hidden }), lively(4)));
        const ids = tokens(model.config, 2, 3);
        for (const mode of ['topk' as const, ...ROUTERS[router].causalModes]) {
          expect(logits(model, ids, mode).logits.every(Number.isFinite), mode).toBe(true);
        }
        model.dispose();
      },
    );
  });

  describe('causality', () => {
    /** The relative change of the logits up to position t if every token after t changes. */
    function changesBefore(model: Transformer, mode: RoutingMode, t: number, seed: number): number {
      const ids = tokens(model.config, 1, seed);
      const changed = ids.map((id, i) => (i > t ? (id + 1 + (seed % 9)) % model.config.vocab_size : id));
      const upTo = (t + 1) * model.config.vocab_size;
      const before = logits(model, ids, mode).logits.slice(0, upTo);
      return relativeError(logits(model, changed, mode).logits.slice(0, upTo), before);
    }

    it.each(CAUSAL_MODES)('under %s no output depends on a later token', (mode) => {
      fc.assert(
        fc.property(shapes, fc.nat(), (shape, at) => {
          const model = withThresholds(new Transformer(config(shape), lively(shape.seed)));
          const t = at % (model.config.sequence_length - 1);
          // Products are grouped differently, so sums may differ by rounding.
          expect(changesBefore(model, mode, t, shape.seed)).toBeLessThan(1e-5);
          model.dispose();
        }),
        { numRuns: 25 },
      );
    });

    it('under topk an output may depend on a later token', () => {
      const shape = { heads: 2, half: 4, T: 24, layers: 2, capacity: 0.25, seed: 0 };
      const model = new Transformer(config(shape), lively(5));
      const changed = Array.from({ length: 10 }, (_, seed) => changesBefore(model, 'topk', 11, seed));
      expect(Math.max(...changed)).toBeGreaterThan(1e-3);
      model.dispose();
    });

    it('of a dense model holds in every mode', () => {
      const model = new Transformer(
        config({ heads: 2, half: 2, T: 9, layers: 2, capacity: 1, seed: 2 }, null),
        lively(2),
      );
      for (const mode of ROUTING_MODES) {
        expect(modeProblem(model.config, mode)).toBeNull();
        expect(changesBefore(model, mode, 4, 3)).toBeLessThan(1e-5);
      }
      model.dispose();
    });
  });

  describe('gradients', () => {
    const shape = { heads: 2, half: 4, T: 16, layers: 4, capacity: 0.25, seed: 6 };

    /** Gradients by parameter name, of the total loss. */
    function gradients(routing: Partial<RoutingConfig>): Map<string, Float32Array> {
      const model = new Transformer(config(shape, routing), lively(6));
      const ids = tokens(model.config, 2, 8);
      const { loss, predictorAccuracy } = accumulateGradients(
        model,
        { sequences: 2, inputs: ids, targets: ids.toReversed() },
        null,
      );
      loss.dispose();
      predictorAccuracy?.dispose();
      const found = new Map(
        model.parameters.map(({ name, grad }) => [name, grad?.dataSync() as Float32Array]),
      );
      model.dispose();
      return found;
    }

    it('of the predictor’s loss do not reach the trunk or the router', () => {
      const [without, trained] = [gradients({ predictor_hidden: 0 }), gradients({ predictor_hidden: 4 })];
      for (const [name, gradient] of without) expect(trained.get(name), name).toEqual(gradient);
      expect(trained.get('blocks.1.predictor.fc1.weight')?.some((value) => value !== 0)).toBe(true);
    });

    it('of the auxiliary loss reach the router and the trunk before it', () => {
      const [without, trained] = [gradients({}), gradients({ aux_loss_weight: 0.5 })];
      for (const name of ['blocks.3.router.weight', 'blocks.0.mlp.up_proj.weight', 'tok_embed.weight']) {
        expect(trained.get(name), name).not.toEqual(without.get(name));
      }
      expect(trained.get('final_norm.weight')).toEqual(without.get('final_norm.weight'));
    });
  });

  describe('modes', () => {
    it.each([
      [null, ['topk']],
      [{}, ['topk', 'predictor', 'quantile']],
      [{ aux_loss_weight: 0.01 }, ['topk', 'predictor', 'threshold', 'quantile']],
      [{ predictor_hidden: 0 }, ['topk', 'quantile']],
      [{ router: 'random' as const }, ['topk']],
    ])('of routing %j are %j', (routing, modes) => {
      const shape = { heads: 1, half: 2, T: 8, layers: 2, capacity: 0.5, seed: 0 };
      expect(evaluationModes(config(shape, routing))).toEqual(modes);
    });

    it.each(ROUTER_NAMES)('of a %s router without a predictor leave the mode predictor out', (router) => {
      const shape = { heads: 1, half: 2, T: 8, layers: 2, capacity: 0.5, seed: 0 };
      const model = config(shape, { router, predictor_hidden: 0 });
      expect(causalModes(model)).toEqual(ROUTERS[router].causalModes.filter((mode) => mode !== 'predictor'));
      expect(modeProblem(model, 'predictor')).toMatch(/; use topk/);
      expect(modeProblem(model, 'topk')).toBeNull();
    });
  });

  describe('the mode quantile', () => {
    const shape = { heads: 2, half: 4, T: 16, layers: 4, capacity: 0.25, seed: 6 };
    const ids = (model: Transformer) => tokens(model.config, 2, 3);

    it('selects the tokens whose router weight is above their block’s threshold, and needs thresholds', () => {
      const model = new Transformer(config(shape), lively(6));
      expect(weightsProblem(model, 'quantile')).toContain('router.threshold');
      expect(weightsModes(model)).toEqual(['topk', 'predictor']);
      expect(() => logits(model, ids(model), 'quantile')).toThrow('needs thresholds');
      withThresholds(model);
      expect(weightsProblem(model, 'quantile')).toBeNull();
      expect(weightsModes(model)).toEqual(['topk', 'predictor', 'quantile']);
      scope(() => {
        const inputs = tensor2d(ids(model), [2, shape.T], 'int32');
        const { routed } = model.forward(inputs, { tape: null, mode: 'quantile', drawn: null });
        expect(routed).toHaveLength(2);
        routed.forEach(({ r, mask }, i) => {
          const threshold = model.thresholds?.[i] as number;
          expect(Array.from(mask.dataSync())).toEqual(
            Array.from(r.dataSync(), (w) => (w > threshold ? 1 : 0)),
          );
        });
      });
      model.dispose();
    });

    it('with thresholds 0 equals the mode threshold, and with -infinity a block of all tokens', () => {
      const model = new Transformer(config(shape), lively(6));
      model.thresholds = [0, 0];
      expect(logits(model, ids(model), 'quantile')).toEqual(logits(model, ids(model), 'threshold'));
      model.thresholds = [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY];
      const all = new Transformer(config({ ...shape, capacity: 1 }), lively(6));
      const difference = relativeError(
        logits(model, ids(model), 'quantile').logits,
        logits(all, ids(model), 'topk').logits,
      );
      expect(difference).toBeLessThan(1e-5); // the products are grouped differently
      for (const each of [model, all]) each.dispose();
    });
  });

  it('a forward pass without a tape frees all but its results', () => {
    const model = withThresholds(
      new Transformer(config({ heads: 2, half: 4, T: 16, layers: 4, capacity: 0.25, seed: 6 }), lively(6)),
    );
    const before = memory().numTensors;
    for (const mode of ROUTING_MODES) logits(model, tokens(model.config, 3, 1), mode);
    expect(memory().numTensors).toBe(before);
    model.dispose();
  });
});
