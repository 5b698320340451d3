/** The points of a product of settings, in the plan's order. */
import type { Shape } from '../config/shapes.js';
import type { Product } from '../config/sweep-file.js';
import { InputError } from '../errors.js';
import type { RouterName } from '../model/config.js';
import { denseFlopsPerPass } from '../model/flops.js';
import { ROUTERS } from '../model/routers.js';
import { VARIANTS } from '../model/variants.js';
import { type FlopsTarget, matchFlops } from './match-flops.js';
import { modelOf } from './model-of.js';
import type { Point, RoutingPoint } from './point.js';
import { autoSizes, MOST_AUTO_SIZES } from './sizes.js';

/** Returns the optimal baseline of a finished sweep, by its folder, at a budget. */
export type BaselineOf = (sweep: string, budget: number) => FlopsTarget;

/** For callers without a results folder: `match_flops` of a sweep is an error. */
export const noBaselines: BaselineOf = (sweep) => {
  throw new InputError(`match_flops: ${sweep}: no results folder to read a sweep from`);
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

/** The factors of the number of points of a product, without computing any; `auto` sizes count as their maximum. */
export function axesOf(product: Product): Record<string, number> {
  const { flop_budgets, capacities, routing_frequencies, routers, gates, model_sizes, training, seeds } =
    product;
  const routed = (names: readonly RouterName[]) =>
    capacities.length *
    routing_frequencies.length *
    names.reduce((sum, router) => sum + ROUTERS[router].gates(gates).length, 0);
  const experts = product.expert_variants.map((variant) => {
    const { router } = VARIANTS[variant].experts;
    return router === null ? 1 : routed([router]);
  });
  return {
    budgets: flop_budgets.length,
    settings: experts.reduce((sum, one) => sum + one, (product.baseline ? 1 : 0) + routed(routers)),
    sizes: Array.isArray(model_sizes) ? model_sizes.length : model_sizes === 'auto' ? MOST_AUTO_SIZES : 1,
    'learning rates': training.learning_rate.length,
    seeds: seeds.length,
  };
}

type Setting = Pick<Point, 'variant' | 'routing'>;

function variantsOf(product: Product): Setting[] {
  const baseline: Setting[] = product.baseline ? [{ variant: 'baseline', routing: null }] : [];
  const routed = routingsOf(product, product.routers).map((routing): Setting => {
    return { variant: ROUTERS[routing.router].variant, routing };
  });
  const experts = product.expert_variants.flatMap((variant): Setting[] => {
    const { router } = VARIANTS[variant].experts;
    if (router === null) return [{ variant, routing: null }];
    return routingsOf(product, [router]).map((routing) => ({ variant, routing }));
  });
  return [...baseline, ...routed, ...experts];
}

/** Every routing setting with these routers: by capacity, then frequency, router, gate. */
function routingsOf(product: Product, routers: readonly RouterName[]): RoutingPoint[] {
  return product.capacities.flatMap((capacity) =>
    product.routing_frequencies.flatMap((frequency) =>
      routers.flatMap((router) =>
        ROUTERS[router].gates(product.gates).map((gate) => ({ capacity, frequency, router, gate })),
      ),
    ),
  );
}

type SizesOf = (setting: Setting) => Shape[];

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
  const targetFlops = flopsPerPass ?? denseFlopsPerPass(modelOf(dense));
  return (setting) =>
    setting.variant === 'baseline'
      ? [shape]
      : [matchFlops(targetFlops, shape, (other) => modelOf({ product, shape: other, ...setting }))];
}
