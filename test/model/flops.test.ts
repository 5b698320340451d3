/**
 * FLOPs per pass against Chinchilla's totals, the golden cases, the terms written out by hand, and the matrix products that
 * a tiny model performs.
 */
import { readFileSync } from 'node:fs';
import { engine, tensor2d } from '@tensorflow/tfjs-core';
import { beforeAll, expect, it } from 'vitest';
import { CHINCHILLA_SHAPES } from '../../src/config/shapes.js';
import {
  type ExpertsConfig,
  type ModelConfig,
  ROUTER_NAMES,
  type RoutingConfig,
} from '../../src/model/config.js';
import { blockFlops, causalFlopsPerPass, denseFlopsPerPass, flopsPerPass } from '../../src/model/flops.js';
import { initialValues } from '../../src/model/parameters.js';
import { drawnWeights, ROUTERS } from '../../src/model/routers.js';
import { Transformer } from '../../src/model/transformer.js';
import { useBackend } from '../support/backends.js';
import { modelConfig } from '../support/model-config.js';

const read = (path: string) => JSON.parse(readFileSync(`test/${path}`, 'utf8'));
const golden = (name: string): ModelConfig => read(`golden/${name}/config.json`).model;

const totals: Record<string, number> = read(
  'fixtures/chinchilla-shapes.json',
).train_flops_per_sequence_without_vocabulary_terms;

it.each(Object.entries(totals).filter(([shape]) => shape !== 'note'))(
  'the blocks of %s train at %d FLOPs',
  (name, total) => {
    const shape = CHINCHILLA_SHAPES.find(({ d_model, n_layers }) => `${d_model}x${n_layers}` === name);
    if (shape === undefined) throw new Error(`no shape ${name}`);
    const block = Object.values(blockFlops(shape, 2048)).reduce((a, b) => a + b, 0);
    expect(3 * shape.n_layers * block).toBe(total);
  },
);

it.each(['baseline', 'mod-raw-f2', 'mod-raw-f2-head64', 'mod-sigmoid-f1-aux-untied'])(
  'FLOPs per pass of the golden case %s',
  (name) => {
    const { total, logits } = flopsPerPass(golden(name));
    const expected = read(`golden/${name}/expected_eval.json`).flops_per_pass_topk;
    expect({ blocks_and_routers: total - logits, logits }).toEqual(expected);
  },
);

const GOLDEN = golden('mod-raw-f2'); // D 32, 4 layers, 2 of them routed, T 32, k 8, P 16

it('a learned router and its predictor cost FLOPs, other routers cost none', () => {
  const { router, predictor } = flopsPerPass(GOLDEN);
  expect({ router, predictor }).toEqual({ router: 2 * 2 * 32 * 32, predictor: 2 * 2 * 32 * (32 * 16 + 16) });
  for (const name of ROUTER_NAMES.filter((router) => !ROUTERS[router].learns)) {
    const routing = { ...(GOLDEN.routing as RoutingConfig), router: name };
    expect(flopsPerPass({ ...GOLDEN, routing }), name).toMatchObject({ router: 0, predictor: 0 });
  }
});

it('the dense model of the same shape is the baseline', () => {
  expect(denseFlopsPerPass(GOLDEN)).toBe(flopsPerPass({ ...GOLDEN, routing: null }).total);
  expect(denseFlopsPerPass(golden('baseline'))).toBe(flopsPerPass(golden('baseline')).total);
});

const tokens = (n: number) => ({ mean: n, meanSquare: n * n });

it('a causal pass that selects k tokens costs as much as the training pass; under threshold without the predictor', () => {
  const training = flopsPerPass(GOLDEN);
  expect(causalFlopsPerPass(GOLDEN, 'predictor', [tokens(8), tokens(8)])).toEqual(training);
  const { total, predictor } = causalFlopsPerPass(GOLDEN, 'threshold', [tokens(8), tokens(8)]);
  expect({ total, predictor }).toEqual({ total: training.total - training.predictor, predictor: 0 });
});

it('a causal pass is the mean over sequences, each routed block on its own', () => {
  const block = (n: number) => Object.values(blockFlops(GOLDEN, n)).reduce((a, b) => a + b, 0);
  const threeOrFour = { mean: 3.5, meanSquare: (3 * 3 + 4 * 4) / 2 };
  const { total } = causalFlopsPerPass(GOLDEN, 'threshold', [threeOrFour, tokens(20)]);
  const rest = 2 * block(32) + 2 * 2 * 32 * 32 + 2 * 32 * 32 * 64;
  expect(total).toBeCloseTo((block(3) + block(4)) / 2 + block(20) + rest, 6);
});

const DENSE = modelConfig({
  vocab_size: 13,
  d_model: 12,
  n_layers: 4,
  n_heads: 3,
  d_ff: 20,
  sequence_length: 16,
});
const ROUTED: RoutingConfig = {
  frequency: 2,
  capacity: 0.25,
  router: 'learned',
  gate: 'raw',
  aux_loss_weight: 0,
  predictor_hidden: 5,
};

const EXPERTS: ExpertsConfig = {
  count: 3,
  no_ops: 0,
  capacity_factor: 1.25,
  balance_loss_weight: 0.01,
  balance_no_ops: true,
};

beforeAll(() => useBackend('cpu'));

/** 2·m·n·k summed over all products of a forward pass of one sequence, by the composed definitions. */
async function countedProducts(config: ModelConfig): Promise<number> {
  const model = new Transformer(config, initialValues(0));
  const tokens = tensor2d(new Int32Array(config.sequence_length), [1, config.sequence_length], 'int32');
  const { kernels } = await engine().profile(() => {
    engine().tidy(() => {
      const drawn = drawnWeights(config, 0, 'heldout', 0, 1);
      model.forward(tokens, { tape: null, mode: 'topk', drawn });
    });
    return [];
  });
  model.dispose();
  return kernels
    .filter(({ name }) => name === 'BatchMatMul')
    .reduce((sum, { inputShapes, outputShapes }) => {
      const size = (shape: number[]) => shape.reduce((a, b) => a * b, 1);
      const [a, b] = inputShapes as [number[], number[]];
      const out = size(outputShapes[0] as number[]);
      const batch = size((outputShapes[0] as number[]).slice(0, -2));
      // |a|·|b|·|out| = (batch·m·k)(batch·k·n)(batch·m·n) = batch³·(m·n·k)²
      return sum + 2 * batch * Math.sqrt((size(a) * size(b) * out) / batch ** 3);
    }, 0);
}

it.each([
  ['dense', DENSE],
  ['untied', { ...DENSE, tie_embeddings: false }],
  ...ROUTER_NAMES.map((router): [string, ModelConfig] => {
    const predictor_hidden = ROUTERS[router].learns ? ROUTED.predictor_hidden : 0;
    return [`every other block, ${router}`, { ...DENSE, routing: { ...ROUTED, router, predictor_hidden } }];
  }),
  ['experts', { ...DENSE, experts: EXPERTS }],
  ['experts and no-ops', { ...DENSE, experts: { ...EXPERTS, no_ops: 2 } }],
  ['experts in routed blocks', { ...DENSE, routing: ROUTED, experts: EXPERTS }],
  ['every block, no predictor', { ...DENSE, routing: { ...ROUTED, frequency: 1, predictor_hidden: 0 } }],
])('the products of a model, %s, are the FLOP count minus the softmax', async (_, config) => {
  const { total, softmax } = flopsPerPass(config);
  expect(await countedProducts(config)).toBe(total - softmax);
});
