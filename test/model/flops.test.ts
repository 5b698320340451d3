/** The matrix products that a tiny model really performs, counted, against the formula of the FLOPs per pass. */
import { engine, tensor2d } from '@tensorflow/tfjs-core';
import { beforeAll, expect, it } from 'vitest';
import type { ExpertsConfig, ModelConfig, RoutingConfig } from '../../src/model/config.js';
import { flopsPerPass } from '../../src/model/flops.js';
import { initialValues } from '../../src/model/parameters.js';
import { Transformer } from '../../src/model/transformer.js';
import { useBackend } from '../support/backends.js';
import { modelConfig } from '../support/model-config.js';

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

/** 2·m·n·k over all products of a forward pass of one sequence, by the composed definitions. */
async function countedProducts(config: ModelConfig): Promise<number> {
  const model = new Transformer(config, initialValues(0));
  const tokens = tensor2d(new Int32Array(config.sequence_length), [1, config.sequence_length], 'int32');
  const { kernels } = await engine().profile(() => {
    engine().tidy(() => {
      model.forward(tokens, { tape: null, mode: 'topk', drawn: null });
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
  ['every other block', { ...DENSE, routing: ROUTED }],
  ['experts', { ...DENSE, experts: EXPERTS }],
  ['experts and no-ops', { ...DENSE, experts: { ...EXPERTS, no_ops: 2 } }],
  ['experts in routed blocks', { ...DENSE, routing: ROUTED, experts: EXPERTS }],
  ['every block, no predictor', { ...DENSE, routing: { ...ROUTED, frequency: 1, predictor_hidden: 0 } }],
])('the products of a model, %s, are the FLOP count less the softmax', async (_, config) => {
  const { total, softmax } = flopsPerPass(config);
  expect(await countedProducts(config)).toBe(total - softmax);
});
