/** How many parameters a model has: the sum over the tensors of its checkpoint. */
import { expertChoices, hasPredictor, isRouted, type ModelConfig } from './config.js';

export interface ParameterCounts {
  total: number;
  /** Without the vocabulary's matrices, `tok_embed` and `lm_head`: the same whether they are tied or not. */
  non_embedding: number;
  /** That one token's pass may use: of the experts of a block one. */
  active: number;
}

/**
 * Parameters of a model. A block: two gains 2·D, q, k, v and o 4·D², MLP 2·D·F; a routed one with a learned router the
 * router D and, where P > 0, the predictor P·D + P and P + 1. Beside the blocks: V·D, the final gain D, and V·D again
 * where the embedding is not tied. With experts a block has E MLPs and a router D·(E + no-ops).
 */
export function parameterCounts(model: ModelConfig): ParameterCounts {
  const { d_model: D, d_ff: F, vocab_size: V, routing, experts, n_layers } = model;
  const mlp = 2 * D * F;
  const mlps = experts === null ? mlp : experts.count * mlp + D * expertChoices(experts);
  const block = 2 * D + 4 * D * D + mlps;
  let non_embedding = n_layers * block + D;
  if (routing !== null && routing.router === 'learned') {
    const P = hasPredictor(routing) ? routing.predictor_hidden : 0;
    const predictor = P === 0 ? 0 : P * D + P + P + 1;
    const routedBlocks = Array.from({ length: n_layers }, (_, i) => isRouted(model, i)).filter(
      Boolean,
    ).length;
    non_embedding += routedBlocks * (D + predictor);
  }
  const total = non_embedding + (model.tie_embeddings ? 1 : 2) * V * D;
  const idle = n_layers * ((experts?.count ?? 1) - 1) * mlp;
  return { total, non_embedding, active: total - idle };
}
