/** What a model is: the `model` entry of a checkpoint's config.json, and the sizes that follow from it. */
import type { Gate } from '../ops/gates.js';

/** Where a routed block's router weights come from: see routers.ts. */
export const ROUTER_NAMES = ['learned', 'random'] as const;
export type RouterName = (typeof ROUTER_NAMES)[number];

/** The modes for sampling, in which a token's selection does not depend on later tokens; the preferred one first. */
export const CAUSAL_MODES = ['predictor', 'threshold', 'quantile'] as const;
export type CausalMode = (typeof CAUSAL_MODES)[number];
/** How a routed block selects tokens: `topk` is the training pass, which is not causal. See routing-modes.ts. */
export const ROUTING_MODES = ['topk', ...CAUSAL_MODES] as const;
export type RoutingMode = (typeof ROUTING_MODES)[number];

export interface RoutingConfig {
  /** Block i (from 0) is routed when i mod frequency = frequency - 1. */
  frequency: number;
  /** Share of a sequence's tokens that a routed block processes, in (0, 1]. */
  capacity: number;
  router: RouterName;
  gate: Gate;
  /** Weight of the auxiliary loss on the router weights; 0: none. */
  aux_loss_weight: number;
  /** Hidden width of the causal predictor; 0: none. */
  predictor_hidden: number;
}

/** The MLP of every block as experts behind a router: token choice, top-1 (Fedus et al. 2022). */
export interface ExpertsConfig {
  /** Number of experts, each a separate MLP. */
  count: number;
  /** No-op experts among the choices: a token that chooses one bypasses the experts (Raposo et al. 2024, section 4.3). */
  no_ops: number;
  /** Slots of an expert, as a multiple of its even share of the tokens. */
  capacity_factor: number;
  balance_loss_weight: number;
  /** Whether the balance loss covers the no-ops too; false: the experts alone. */
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
  /** Factor of the outputs of attention and MLP; absent: 1. */
  residual_multiplier?: number;
  /** Factor of the logits; absent: 1. */
  logits_multiplier?: number;
  /** Factor of q·k before the softmax; absent: 1/√K. */
  attention_multiplier?: number;
  /** Null: no block is routed. */
  routing: RoutingConfig | null;
  /** Null: one MLP per block. */
  experts: ExpertsConfig | null;
}

/** Tokens of a sequence of `sequenceLength` that a routed block of this capacity processes: k = floor(C·T + 0.5). */
export function selectedTokens(capacity: number, sequenceLength: number): number {
  return Math.floor(capacity * sequenceLength + 0.5);
}

/** Choices of an expert router: the experts, then the no-ops. */
export function expertChoices({ count, no_ops }: ExpertsConfig): number {
  return count + no_ops;
}

/**
 * Slots of each expert in a sequence of which a block processes n tokens: ceil(capacity_factor·n / choices), at least 1
 * and at most n. n follows from the model's sequence length even if a sequence is shorter: a token's slot must not depend
 * on later tokens. The factor 1 - 1e-12 absorbs rounding errors, so that `moe-reduced`, whose capacity factor is
 * computed, has the slots of `mode-integrated`.
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
export function isRouted({ routing }: Pick<ModelConfig, 'routing'>, block: number): boolean {
  return routing !== null && block % routing.frequency === routing.frequency - 1;
}

/** The routed blocks, from 0, ascending. */
export function routedBlocks(model: Pick<ModelConfig, 'routing' | 'n_layers'>): number[] {
  return Array.from({ length: model.n_layers }, (_, block) => block).filter((block) =>
    isRouted(model, block),
  );
}
