/** What a model is: the `model` entry of a checkpoint's config.json, and the few sizes that follow from it. */

export type RouterKind = 'learned' | 'random';
export type Gate = 'raw' | 'sigmoid';
/** How a routed block selects tokens: `topk` is the training pass (not causal), the others are causal. */
export type RoutingMode = 'topk' | 'predictor' | 'threshold';

export interface RoutingConfig {
  /** Block i (from 0) is routed when i mod frequency = frequency - 1. */
  frequency: number;
  /** Share of a sequence's tokens that a routed block processes, in (0, 1]. */
  capacity: number;
  router: RouterKind;
  gate: Gate;
  aux_loss_weight: number;
  /** Hidden width of the causal predictor; 0: none. */
  predictor_hidden: number;
}

export interface ModelConfig {
  vocab_size: number;
  d_model: number;
  n_layers: number;
  n_heads: number;
  d_ff: number;
  sequence_length: number;
  tie_embeddings: boolean;
  routing: RoutingConfig | null;
  experts: null;
}

/** Tokens of a sequence of `sequenceLength` that a routed block of this capacity processes: k = floor(C·T + 0.5). */
export function selectedTokens(capacity: number, sequenceLength: number): number {
  return Math.floor(capacity * sequenceLength + 0.5);
}

/** Whether block `block` (from 0) is routed. */
export function isRouted(model: ModelConfig, block: number): boolean {
  const frequency = model.routing?.frequency;
  return frequency !== undefined && block % frequency === frequency - 1;
}

/** How many blocks are routed. */
export function routedBlockCount({ routing, n_layers }: ModelConfig): number {
  return routing === null ? 0 : Math.floor(n_layers / routing.frequency);
}

/** Whether the routed blocks of this model carry a predictor: the random control has nothing to predict. */
export function hasPredictor(routing: RoutingConfig): boolean {
  return routing.router === 'learned' && routing.predictor_hidden > 0;
}
