/** The model that a point of a sweep trains. */
import type { ExpertsConfig, ModelConfig, RoutingConfig } from '../model/config.js';
import { type BaseShape, withMultipliers } from '../model/parametrization.js';
import { ROUTERS } from '../model/routers.js';
import { type ExpertsSetting, VARIANTS } from '../model/variants.js';
import type { Point } from './point.js';

/** The model of a shape under the settings of a product; no block is routed if `routing` is null. */
export function modelOf({
  product,
  shape,
  variant,
  routing,
}: Pick<Point, 'product' | 'shape' | 'variant' | 'routing'>): ModelConfig {
  const { name: _, ...sizes } = shape;
  const form = VARIANTS[variant].experts;
  const base = baseOf(product);
  const model: ModelConfig = {
    vocab_size: product.data.vocab_size,
    ...sizes,
    sequence_length: product.sequence_length.value,
    tie_embeddings: product.tie_embeddings,
    routing: routing === null ? null : routingOf(routing, product),
    experts: form === null ? null : expertsOf(form, product),
  };
  return base === null ? model : withMultipliers(model, base);
}

/** The base of `parametrization: complete`; null under `standard`. */
export function baseOf({ training: { parametrization, base } }: Point['product']): BaseShape | null {
  if (parametrization === 'standard') return null;
  return {
    d_model: base.d_model.value,
    n_layers: base.n_layers.value,
    head_size: base.head_size.value,
    batch_tokens: base.batch_tokens.value,
  };
}

function routingOf(
  { capacity, frequency, router, gate }: NonNullable<Point['routing']>,
  { routing }: Point['product'],
): RoutingConfig {
  // Keys without effect on this router are set to 0, so that runs that differ only in them are one run.
  const { learns } = ROUTERS[router];
  return {
    frequency: frequency.value,
    capacity: capacity.value,
    router,
    gate,
    aux_loss_weight: learns ? routing.aux_loss_weight.value : 0,
    predictor_hidden: learns ? routing.predictor_hidden.value : 0,
  };
}

/**
 * The experts of a variant. With reduced capacity there are no no-ops, but the slots are computed as if there were: the
 * FLOPs equal those of the variant with no-ops.
 */
function expertsOf(form: ExpertsSetting, { experts }: Point['product']): ExpertsConfig {
  const count = experts.count.value;
  const no_ops = experts.no_ops?.value ?? count;
  const capacity_factor = experts.capacity_factor.value;
  return {
    count,
    no_ops: form.noOps ? no_ops : 0,
    capacity_factor: form.reducedCapacity ? (capacity_factor * count) / (count + no_ops) : capacity_factor,
    balance_loss_weight: experts.balance_loss_weight.value,
    // Has no effect without no-ops: runs that differ only in it are one run.
    balance_no_ops: form.noOps ? experts.balance_no_ops : true,
  };
}
