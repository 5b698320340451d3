/** Model configs for tests: one small model with the changes of a test. */
import type { ExpertsConfig, ModelConfig, RoutingConfig } from '../../src/model/config.js';

/** Every other block routed at 25%, with a predictor and no auxiliary loss. */
const ROUTING: RoutingConfig = {
  frequency: 2,
  capacity: 0.25,
  router: 'learned',
  gate: 'raw',
  aux_loss_weight: 0,
  predictor_hidden: 4,
};

const EXPERTS: ExpertsConfig = {
  count: 4,
  no_ops: 0,
  capacity_factor: 1.25,
  balance_loss_weight: 0.01,
  balance_no_ops: false,
};

export interface ModelChanges extends Partial<Omit<ModelConfig, 'routing' | 'experts'>> {
  /** Null or absent: dense. */
  routing?: Partial<RoutingConfig> | null;
  /** Null or absent: one MLP for all tokens. */
  experts?: Partial<ExpertsConfig> | null;
}

/** A dense model of two layers with some keys changed; d_ff is 4·d_model unless given. */
export function modelConfig({ routing = null, experts = null, ...sizes }: ModelChanges = {}): ModelConfig {
  const d_model = sizes.d_model ?? 16;
  return {
    vocab_size: 11,
    n_layers: 2,
    n_heads: 2,
    d_ff: 4 * d_model,
    sequence_length: 12,
    tie_embeddings: true,
    ...sizes,
    d_model,
    routing: routing === null ? null : { ...ROUTING, ...routing },
    experts: experts === null ? null : { ...EXPERTS, ...experts },
  };
}
