/** The points of a product of settings, in the plan's order. */
import type { Written } from '../config/document.js';
import type { Shape } from '../config/shapes.js';
import type { Product } from '../config/sweep-file.js';
import { InputError } from '../errors.js';
import type { RouterKind } from '../model/config.js';
import { denseFlopsPerPass } from '../model/flops.js';
import type { Variant } from '../model/variants.js';
import type { Gate } from '../ops/gates.js';
import { type FlopsTarget, matchFlops } from './match-flops.js';
import { modelOf } from './model-of.js';
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
  /** Null: no block is routed. */
  routing: RoutingPoint | null;
  shape: Shape;
  learningRate: 'auto' | Written;
  seed: Written;
}

/** The optimal baseline of a finished sweep, by its folder, at a budget. */
export type BaselineOf = (sweep: string, budget: number) => FlopsTarget;

/** For callers that read no results. */
export const noBaselines: BaselineOf = (sweep) => {
  throw new InputError(`match_flops: ${sweep}: no sweep can be read here`);
};

/** All points of a product: by budget, then variant, size, learning rate, seed. */
export function pointsOf(product: Product, baselineOf: BaselineOf): Point[] {
  const { flop_budgets, training, seeds } = product;
  return flop_budgets.flatMap((budget) => {
    const sizesOf = sizesFor(budget.value, product, baselineOf);
    return variantsOf(product).flatMap(({ variant, routing }) =>
      sizesOf({ variant, routing }).flatMap((shape) =>
        training.learning_rate.flatMap((learningRate) =>
          seeds.map((seed) => ({ product, budget, variant, routing, shape, learningRate, seed })),
        ),
      ),
    );
  });
}

const VARIANT_OF: Record<RouterKind, Variant> = { learned: 'mod', random: 'random' };

function variantsOf(product: Product): Pick<Point, 'variant' | 'routing'>[] {
  const routed = product.capacities.flatMap((capacity) =>
    product.routing_frequencies.flatMap((frequency) =>
      product.routers.flatMap((router) =>
        product.gates.map((gate) => ({
          variant: VARIANT_OF[router],
          routing: { capacity, frequency, router, gate },
        })),
      ),
    ),
  );
  const staged = product.capacities.flatMap((capacity) =>
    product.routing_frequencies.flatMap((frequency) =>
      product.gates.map((gate): RoutingPoint => ({ capacity, frequency, router: 'learned', gate })),
    ),
  );
  const experts = product.expert_variants.flatMap((variant): Pick<Point, 'variant' | 'routing'>[] =>
    variant === 'mode-staged'
      ? staged.map((routing) => ({ variant, routing }))
      : [{ variant, routing: null }],
  );
  const baseline = product.baseline ? [{ variant: 'baseline' as const, routing: null }] : [];
  return [...baseline, ...routed, ...experts];
}

type SizesOf = (kind: Pick<Point, 'variant' | 'routing'>) => Shape[];

function sizesFor(budget: number, product: Product, baselineOf: BaselineOf): SizesOf {
  const { model_sizes, data, tie_embeddings, routing } = product;
  if (Array.isArray(model_sizes)) return () => model_sizes;
  if (model_sizes !== 'auto') {
    const { match_flops } = model_sizes;
    const target =
      typeof match_flops === 'string'
        ? baselineOf(match_flops, budget)
        : { shape: match_flops, flopsPerPass: null };
    return matchedSizes(target, product);
  }
  const predictor_hidden = routing.predictor_hidden.value;
  const sizes = autoSizes(budget, { vocab_size: data.vocab_size, tie_embeddings, predictor_hidden });
  return ({ routing: routed }) => sizes[routed === null ? 'baseline' : 'routed'];
}

function matchedSizes({ shape, flopsPerPass }: FlopsTarget, product: Product): SizesOf {
  const dense = { product, shape, variant: 'baseline', routing: null } as const;
  const wanted = flopsPerPass ?? denseFlopsPerPass(modelOf(dense));
  return (kind) =>
    kind.variant === 'baseline'
      ? [shape]
      : [matchFlops(wanted, shape, (other) => modelOf({ product, shape: other, ...kind }))];
}
