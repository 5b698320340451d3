/** `model_sizes: auto`: how many sizes, in which range, and that routed ones grow in depth. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Shape } from '../../src/config/shapes.js';
import type { RoutingConfig } from '../../src/model/config.js';
import { parameterCounts } from '../../src/model/parameter-count.js';
import { autoSizes } from '../../src/plan/sizes.js';

const ROUTING: RoutingConfig = {
  frequency: 1,
  capacity: 0.125,
  router: 'learned',
  gate: 'raw',
  aux_loss_weight: 0,
  predictor_hidden: 64,
};

function params(
  shape: Shape,
  vocab_size: number,
  tie_embeddings: boolean,
  routing: RoutingConfig | null,
): number {
  return parameterCounts({ ...shape, vocab_size, tie_embeddings, routing, sequence_length: 1, experts: null })
    .total;
}

/** Realistic budgets and vocabularies: N0/8 is more than the embedding. */
const settings = fc.record({
  budget: fc.double({ min: 14, max: 23, noNaN: true }).map((exponent) => 10 ** exponent),
  vocab_size: fc.constantFrom(256, 32000, 50257),
  tie_embeddings: fc.boolean(),
});
/** The smallest size is wider than 64: narrower models step from one width to the next by more than a fifth. */
const usual = settings.filter(
  ({ budget, vocab_size, tie_embeddings }) =>
    Math.sqrt(budget / 120) / 8 > 64 * vocab_size * (tie_embeddings ? 1 : 2),
);

it('seven or more baseline sizes from N0/8 to 2·N0, the ends within a fifth', () => {
  fc.assert(
    fc.property(usual, ({ budget, vocab_size, tie_embeddings }) => {
      const N0 = Math.sqrt(budget / 120);
      const { baseline } = autoSizes(budget, { vocab_size, tie_embeddings, predictor_hidden: 64 });
      const sizes = baseline.map((shape) => params(shape, vocab_size, tie_embeddings, null) / N0);
      expect(sizes.length).toBeGreaterThanOrEqual(7);
      expect(sizes).toEqual([...sizes].sort((a, b) => a - b));
      expect(sizes[0]).toBeGreaterThanOrEqual(1 / 8);
      expect(sizes[0]).toBeLessThan(1.2 / 8);
      expect(sizes.at(-1)).toBeLessThanOrEqual(2);
      expect(sizes.at(-1)).toBeGreaterThan(2 / 1.2);
    }),
    { numRuns: 30 },
  );
});

it('routed sizes are the baseline’s and deeper ones of the widest, up to 4·N0', () => {
  fc.assert(
    fc.property(usual, ({ budget, vocab_size, tie_embeddings }) => {
      const N0 = Math.sqrt(budget / 120);
      const { baseline, routed } = autoSizes(budget, { vocab_size, tie_embeddings, predictor_hidden: 64 });
      const last = baseline.at(-1) as Shape;
      const added = routed.slice(baseline.length);
      expect(routed.slice(0, baseline.length)).toEqual(baseline);
      expect(added.length).toBeGreaterThan(0);
      for (const { d_model, n_layers, n_heads, d_ff } of added) {
        expect({ d_model, n_heads, d_ff }).toEqual({
          d_model: last.d_model,
          n_heads: last.n_heads,
          d_ff: last.d_ff,
        });
        expect(n_layers).toBeGreaterThan(last.n_layers);
      }
      const largest = params(added.at(-1) as Shape, vocab_size, tie_embeddings, ROUTING) / N0;
      expect(largest).toBeLessThanOrEqual(4);
      // One layer fewer than would be too many: of a shallow model a layer is a good part.
      expect(largest).toBeGreaterThan(4 * (1 - 1 / last.n_layers));
    }),
    { numRuns: 30 },
  );
});

it('uses rows of table A9 that are close', () => {
  const { baseline } = autoSizes(6e18, { vocab_size: 32000, tie_embeddings: true, predictor_hidden: 64 });
  expect(baseline.map(({ name }) => name)).toEqual([
    'd384l9',
    '44M',
    '74M',
    '117M',
    '196M',
    '306M',
    'd1216l23',
  ]);
});

it('names are unique, and there are sizes even if the vocabulary alone exceeds the budget', () => {
  fc.assert(
    fc.property(
      fc.double({ min: 1, max: 28, noNaN: true }),
      fc.constantFrom(256, 250_000),
      (exponent, vocab_size) => {
        const { routed } = autoSizes(10 ** exponent, {
          vocab_size,
          tie_embeddings: false,
          predictor_hidden: 64,
        });
        const names = routed.map(({ name }) => name);
        expect(names.length).toBeGreaterThan(0);
        expect(new Set(names).size).toBe(names.length);
      },
    ),
    { numRuns: 30 },
  );
});
