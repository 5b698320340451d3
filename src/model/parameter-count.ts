/** How many parameters a model has, from its config alone, without creating tensors. */
import { expertChoices, type ModelConfig, routedBlocks } from './config.js';
import { ROUTERS } from './routers.js';

export interface ParameterCounts {
  total: number;
  /** Without the vocabulary's matrices, `tok_embed` and `lm_head`. */
  non_embedding: number;
  /** The most that the pass of one token uses: those of one expert per block. */
  active: number;
}

/**
 * Counts the parameters of a model. A block: two gains 2·D, q, k, v and o 4·D², MLP 2·D·F; a routed block in addition its
 * router's (`Router.parameterCount`). With experts a block has E MLPs and their router D·(E + no-ops). Outside the
 * blocks: the embedding V·D, the final gain D, and V·D again where the embedding is not tied.
 */
export function parameterCounts(model: ModelConfig): ParameterCounts {
  const { d_model: D, d_ff: F, vocab_size: V, routing, experts, n_layers } = model;
  const mlp = 2 * D * F;
  const mlps = experts === null ? mlp : experts.count * mlp + D * expertChoices(experts);
  const block = 2 * D + 4 * D * D + mlps;
  const router = routing === null ? 0 : ROUTERS[routing.router].parameterCount(model, routing);
  const non_embedding = n_layers * block + routedBlocks(model).length * router + D;
  const total = non_embedding + (model.tie_embeddings ? 1 : 2) * V * D;
  const idle = n_layers * ((experts?.count ?? 1) - 1) * mlp;
  return { total, non_embedding, active: total - idle };
}
