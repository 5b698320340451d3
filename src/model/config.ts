/** What a model is: the `model` entry of a checkpoint's config.json, and the few sizes that follow from it. */
import type { Gate } from '../ops/gates.js';

/** How the tokens of a routed block are chosen. */
export const ROUTERS = ['learned', 'random'] as const;
export type RouterKind = (typeof ROUTERS)[number];
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

/** The MLP of every block as experts behind a router: token choice, top-1 (Fedus et al. 2022). */
export interface ExpertsConfig {
  /** Experts, each an MLP of its own. */
  count: number;
  /** No-op experts among the choices: who chooses one passes by the experts (Raposo et al. 2024, section 4.3). */
  no_ops: number;
  /** What an expert has room for, over its even share of the tokens. */
  capacity_factor: number;
  balance_loss_weight: number;
  /** Whether the balance loss evens out the no-ops, too; else the experts among themselves. */
  balance_no_ops: boolean;
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
  experts: ExpertsConfig | null;
}

/** Tokens of a sequence of `sequenceLength` that a routed block of this capacity processes: k = floor(C·T + 0.5). */
export function selectedTokens(capacity: number, sequenceLength: number): number {
  return Math.floor(capacity * sequenceLength + 0.5);
}

/** What an expert router chooses from: the experts, then the no-ops. */
export function expertChoices({ count, no_ops }: ExpertsConfig): number {
  return count + no_ops;
}

/**
 * Slots of each expert in a sequence of which a block processes n tokens: ceil(capacity_factor·n / choices), at least 1
 * and at most n. Of the model's sequence length even where fewer tokens are there: a token's place may not depend on later
 * ones. The ceiling forgives rounding, so that a factor and its product with a ratio of whole numbers give the same slots.
 */
export function expertSlots(experts: ExpertsConfig, n: number): number {
  const share = (experts.capacity_factor * n) / expertChoices(experts);
  return Math.max(1, Math.min(n, Math.ceil(share * (1 - 1e-12))));
}

/** Tokens of a sequence that a block processes in the training pass: k where it is routed, else all. */
export function blockTokens(model: ModelConfig, block: number): number {
  const { routing, sequence_length } = model;
  return routing !== null && isRouted(model, block)
    ? selectedTokens(routing.capacity, sequence_length)
    : sequence_length;
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
