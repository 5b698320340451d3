/** Parameter counts against the sums over the tensors of real checkpoints. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { type ModelConfig, ROUTER_NAMES, type RoutingConfig } from '../../src/model/config.js';
import { parameterCounts } from '../../src/model/parameter-count.js';
import { ROUTERS } from '../../src/model/routers.js';

const golden = (name: string): ModelConfig =>
  JSON.parse(readFileSync(`test/golden/${name}/config.json`, 'utf8')).model;

/** Elements of the named tensors of a safetensors file, by its header. */
function elements(path: string, counts: (name: string) => boolean): number {
  const bytes = readFileSync(path);
  const header: Record<string, { shape?: number[] }> = JSON.parse(
    bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString(),
  );
  return Object.entries(header)
    .filter(([name, { shape }]) => shape !== undefined && counts(name))
    .reduce((sum, [, { shape = [] }]) => sum + shape.reduce((a, b) => a * b, 1), 0);
}

it.each(['baseline', 'mod-raw-f2', 'mod-raw-f2-head64', 'mod-sigmoid-f1-aux-untied'])(
  'the tensors of %s',
  (name) => {
    const weights = `test/golden/${name}/weights.safetensors`;
    const total = elements(weights, () => true);
    expect(parameterCounts(golden(name))).toEqual({
      total,
      active: total,
      non_embedding: elements(weights, (tensor) => !/^(tok_embed|lm_head)\./.test(tensor)),
    });
  },
);

const ROUTED = golden('mod-raw-f2'); // D 32, V 64, 2 routed blocks, P 16
const routing = ROUTED.routing as RoutingConfig;

it.each([
  ['without a predictor, the router alone', { ...routing, predictor_hidden: 0 }, 2 * 32],
  ...ROUTER_NAMES.filter((router) => !ROUTERS[router].learns).map(
    (router): [string, RoutingConfig, number] => [
      `under ${router} routing, nothing`,
      { ...routing, router },
      0,
    ],
  ),
  ['with a frequency above the layers, nothing', { ...routing, frequency: 5 }, 0],
])('parameters that routing adds: %s', (_, changed, added) => {
  const dense = parameterCounts({ ...ROUTED, routing: null }).total;
  expect(parameterCounts({ ...ROUTED, routing: changed }).total - dense).toBe(added);
});

it('an untied head adds its matrix to the total only', () => {
  const tied = parameterCounts(ROUTED);
  const untied = parameterCounts({ ...ROUTED, tie_embeddings: false });
  const total = tied.total + 32 * 64;
  expect(untied).toEqual({ total, active: total, non_embedding: tied.non_embedding });
});
