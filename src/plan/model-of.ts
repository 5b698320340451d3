/** The model that a point of a sweep trains. */
import type { ModelConfig, RoutingConfig } from '../model/config.js';
import type { Point } from './points.js';

/** The model of a shape under the settings of a product, dense where `routing` is null. */
export function modelOf({
  product,
  shape,
  routing,
}: Pick<Point, 'product' | 'shape' | 'routing'>): ModelConfig {
  const { name: _, ...sizes } = shape;
  return {
    vocab_size: product.data.vocab_size,
    ...sizes,
    sequence_length: product.sequence_length.value,
    tie_embeddings: product.tie_embeddings,
    routing: routing === null ? null : routingOf(routing, product),
    experts: null,
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
