/** FLOPs per pass: the forward FLOPs of one sequence, term by term. */
import {
  blockTokens,
  type CausalMode,
  expertChoices,
  expertSlots,
  isRouted,
  type ModelConfig,
  type RoutingMode,
} from './config.js';
import { ROUTERS } from './routers.js';
import { MODES } from './routing-modes.js';

/** Forward FLOPs of one sequence by term; `total` is their sum. */
export interface FlopTerms {
  qkv: number;
  scores: number;
  softmax: number;
  values: number;
  attention_output: number;
  mlp: number;
  router: number;
  predictor: number;
  logits: number;
  total: number;
}

type BlockTerms = Pick<FlopTerms, 'qkv' | 'scores' | 'softmax' | 'values' | 'attention_output' | 'mlp'>;

/**
 * The terms of one block that processes n tokens (Hoffmann et al. 2022, appendix F): q, k, v 6·n·D²; scores 2·n²·D;
 * softmax 3·H·n²; values 2·n²·D; output 2·n·D²; MLP 4·n·D·F. A multiply-add counts as two. The causal mask does not
 * halve the scores. Norms, gelu, rotary positions, residual additions and the gate are left out, as in Chinchilla: they are
 * of order n·D.
 *
 * @param nSquared n², or the mean of n² if n is a mean
 */
export function blockFlops(
  model: Pick<ModelConfig, 'd_model' | 'd_ff' | 'n_heads'>,
  n: number,
  nSquared = n * n,
): BlockTerms {
  const { d_model: D, d_ff: F, n_heads: H } = model;
  return {
    qkv: 6 * n * D * D,
    scores: 2 * nSquared * D,
    softmax: 3 * H * nSquared,
    values: 2 * nSquared * D,
    attention_output: 2 * n * D * D,
    mlp: 4 * n * D * F,
  };
}

/**
 * FLOPs of the training pass of one sequence: every dense block at n = T, every routed one at n = k and in addition its
 * router and predictor (`Router.flops`); logits 2·T·D·V. The embedding is a look-up and counts as 0.
 * Experts compute all their slots, filled or not: 4·E·slots·D·F in place of 4·n·D·F; their router adds
 * 2·n·D·(E + no-ops) to the router term. Dispatching tokens and choosing a no-op count as 0.
 */
export function flopsPerPass(model: ModelConfig): FlopTerms {
  return sumOverBlocks(model, 'topk', (block) => {
    const n = blockTokens(model, block);
    return { mean: n, meanSquare: n * n };
  });
}

/** FLOPs per pass of the dense model of the same shape. */
export function denseFlopsPerPass(model: ModelConfig): number {
  return flopsPerPass({ ...model, routing: null, experts: null }).total;
}

/** Tokens of a sequence that a routed block processed, as means over sequences. */
export interface Participation {
  mean: number;
  /** Mean of the square of their number, to which the cost of attention is proportional. */
  meanSquare: number;
}

/**
 * FLOPs of a causal pass, the mean over sequences of what ran: every routed block at n = its selected tokens, with its
 * router, and with its predictor in a mode that runs it. In routed blocks experts compute filled slots only: at most one
 * per selected token.
 *
 * @param participants one entry per routed block, in order
 */
export function causalFlopsPerPass(
  model: ModelConfig,
  mode: CausalMode,
  participants: readonly Participation[],
): FlopTerms {
  return sumOverBlocks(model, mode, (_, routedBlock) => participants[routedBlock] as Participation);
}

/**
 * The terms of the experts of a block that processes n tokens; null for a model without experts.
 *
 * @param packed whether the experts compute filled slots only
 */
function expertFlops(
  model: ModelConfig,
  block: number,
  n: number,
  packed: boolean,
): Pick<FlopTerms, 'mlp' | 'router'> | null {
  const { d_model: D, d_ff: F, experts } = model;
  if (experts === null) return null;
  const slots = experts.count * expertSlots(experts, blockTokens(model, block));
  return {
    mlp: 4 * (packed ? Math.min(n, slots) : slots) * D * F,
    router: 2 * n * D * expertChoices(experts),
  };
}

/** @param participants returns those of a routed block, from its index among all blocks and among the routed ones */
function sumOverBlocks(
  model: ModelConfig,
  mode: RoutingMode,
  participants: (block: number, routedBlock: number) => Participation,
): FlopTerms {
  const { d_model: D, sequence_length: T, vocab_size: V, routing } = model;
  const sum: FlopTerms = {
    qkv: 0,
    scores: 0,
    softmax: 0,
    values: 0,
    attention_output: 0,
    mlp: 0,
    router: 0,
    predictor: 0,
    logits: 2 * T * D * V,
    total: 0,
  };
  let routedBlock = 0;
  for (let i = 0; i < model.n_layers; i++) {
    const routed = isRouted(model, i);
    const { mean, meanSquare } = routed ? participants(i, routedBlock) : { mean: T, meanSquare: T * T };
    const terms = blockFlops(model, mean, meanSquare);
    const { mlp, router } = expertFlops(model, i, mean, mode !== 'topk' && routed) ?? {
      mlp: terms.mlp,
      router: 0,
    };
    for (const [term, flops] of Object.entries({ ...terms, mlp })) sum[term as keyof BlockTerms] += flops;
    sum.router += router;
    if (!routed || routing === null) continue;
    routedBlock += 1;
    const own = ROUTERS[routing.router].flops(model, routing);
    sum.router += own.router;
    if (MODES[mode].runsPredictor) sum.predictor += own.predictor;
  }
  sum.total = Object.values(sum).reduce((a, b) => a + b, 0);
  return sum;
}
