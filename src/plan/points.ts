/** The points of a product of settings, in the plan's order. */
import type { Written } from '../config/document.js';
import type { Shape } from '../config/shapes.js';
import type { Product } from '../config/sweep-file.js';
import type { Gate, RouterKind } from '../model/config.js';
import type { Variant } from './run.js';
import { autoSizes } from './sizes.js';

export interface RoutingPoint {
  capacity: Written;
  frequency: Written;
  router: RouterKind;
  gate: Gate;
}

/** One choice on every axis of a product. */
export interface Point {
  product: Product;
  budget: Written;
  variant: Variant;
  /** Null: the baseline. */
  routing: RoutingPoint | null;
  shape: Shape;
  learningRate: 'auto' | Written;
  seed: Written;
}

/** All points of a product: by budget, then variant, size, learning rate, seed. */
export function pointsOf(product: Product): Point[] {
  const { flop_budgets, training, seeds } = product;
  return flop_budgets.flatMap((budget) => {
    const sizes = sizesFor(budget.value, product);
    return variantsOf(product).flatMap(({ variant, routing }) =>
      sizes[routing === null ? 'baseline' : 'routed'].flatMap((shape) =>
        training.learning_rate.flatMap((learningRate) =>
          seeds.map((seed) => ({ product, budget, variant, routing, shape, learningRate, seed })),
        ),
      ),
    );
  });
}

function variantsOf(product: Product): Pick<Point, 'variant' | 'routing'>[] {
  const routed = product.capacities.flatMap((capacity) =>
    product.routing_frequencies.flatMap((frequency) =>
      product.routers.flatMap((router) =>
        product.gates.map((gate) => ({
          variant: router === 'learned' ? ('mod' as const) : ('random' as const),
          routing: { capacity, frequency, router, gate },
        })),
      ),
    ),
  );
  return [...(product.baseline ? [{ variant: 'baseline' as const, routing: null }] : []), ...routed];
}

function sizesFor(budget: number, product: Product): { baseline: Shape[]; routed: Shape[] } {
  const { model_sizes, data, tie_embeddings, routing } = product;
  if (model_sizes !== 'auto') return { baseline: model_sizes, routed: model_sizes };
  const predictor_hidden = routing.predictor_hidden.value;
  return autoSizes(budget, { vocab_size: data.vocab_size, tie_embeddings, predictor_hidden });
}
