/** FLOPs per pass against Chinchilla's totals, the golden cases and the terms written out by hand. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { CHINCHILLA_SHAPES } from '../../src/config/shapes.js';
import type { ModelConfig } from '../../src/model/config.js';
import { blockFlops, causalFlopsPerPass, denseFlopsPerPass, flopsPerPass } from '../../src/model/flops.js';

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

const ROUTED = golden('mod-raw-f2'); // D 32, 4 layers, 2 of them routed, T 32, k 8, P 16

it('a routed model pays for its routers and predictors, and the random control for neither', () => {
  const { router, predictor } = flopsPerPass(ROUTED);
  expect({ router, predictor }).toEqual({ router: 2 * 2 * 32 * 32, predictor: 2 * 2 * 32 * (32 * 16 + 16) });
  const routing = { ...(ROUTED.routing as NonNullable<ModelConfig['routing']>), router: 'random' as const };
  expect(flopsPerPass({ ...ROUTED, routing })).toMatchObject({ router: 0, predictor: 0 });
});

it('the dense model of the same shape is the baseline', () => {
  expect(denseFlopsPerPass(ROUTED)).toBe(flopsPerPass({ ...ROUTED, routing: null }).total);
  expect(denseFlopsPerPass(golden('baseline'))).toBe(flopsPerPass(golden('baseline')).total);
});

const tokens = (n: number) => ({ mean: n, meanSquare: n * n });

it('a causal pass in which k tokens take part costs what the training pass does; threshold no predictor', () => {
  const training = flopsPerPass(ROUTED);
  expect(causalFlopsPerPass(ROUTED, 'predictor', [tokens(8), tokens(8)])).toEqual(training);
  const { total, predictor } = causalFlopsPerPass(ROUTED, 'threshold', [tokens(8), tokens(8)]);
  expect({ total, predictor }).toEqual({ total: training.total - training.predictor, predictor: 0 });
});

it('a causal pass is the mean over sequences, each routed block on its own', () => {
  const block = (n: number) => Object.values(blockFlops(ROUTED, n)).reduce((a, b) => a + b, 0);
  const threeOrFour = { mean: 3.5, meanSquare: (3 * 3 + 4 * 4) / 2 };
  const { total } = causalFlopsPerPass(ROUTED, 'threshold', [threeOrFour, tokens(20)]);
  const rest = 2 * block(32) + 2 * 2 * 32 * 32 + 2 * 32 * 32 * 64;
  expect(total).toBeCloseTo((block(3) + block(4)) / 2 + block(20) + rest, 6);
});
