/** The model that a point of a sweep trains. */
import type { ExpertsConfig, ModelConfig, RoutingConfig } from '../model/config.js';
import { isExpertVariant } from '../model/variants.js';
import type { Point } from './points.js';

/** The model of a shape under the settings of a product: no block routed where `routing` is null. */
export function modelOf({
  product,
  shape,
  variant,
  routing,
}: Pick<Point, 'product' | 'shape' | 'variant' | 'routing'>): ModelConfig {
  const { name: _, ...sizes } = shape;
  return {
    vocab_size: product.data.vocab_size,
    ...sizes,
    sequence_length: product.sequence_length.value,
    tie_embeddings: product.tie_embeddings,
    routing: routing === null ? null : routingOf(routing, product),
    experts: isExpertVariant(variant) ? expertsOf(variant, product) : null,
  };
}

function routingOf(
  { capacity, frequency, router, gate }: NonNullable<Point['routing']>,
  { routing }: Point['product'],
): RoutingConfig {
  // The random control has neither predictor nor auxiliary loss: runs that differ in them alone are one run.
  const learned = router === 'learned';
  return {
    frequency: frequency.value,
    capacity: capacity.value,
    router,
    gate,
    aux_loss_weight: learned ? routing.aux_loss_weight.value : 0,
    predictor_hidden: learned ? routing.predictor_hidden.value : 0,
  };
}

/**
 * `mode-integrated` has no-ops among its choices. `moe-reduced` has none and experts with as many slots as there: each
 * choice's even share of the tokens, no-ops counted, so that the FLOPs of both experts are equal.
 */
function expertsOf(variant: Point['variant'], { experts }: Point['product']): ExpertsConfig {
  const count = experts.count.value;
  const no_ops = experts.no_ops?.value ?? count;
  const capacity_factor = experts.capacity_factor.value;
  const integrated = variant === 'mode-integrated';
  return {
    count,
    no_ops: integrated ? no_ops : 0,
    capacity_factor:
      variant === 'moe-reduced' ? (capacity_factor * count) / (count + no_ops) : capacity_factor,
    balance_loss_weight: experts.balance_loss_weight.value,
    // Where there are no no-ops it makes no difference: runs that differ in it alone are one run.
    balance_no_ops: integrated ? experts.balance_no_ops : true,
  };
}
