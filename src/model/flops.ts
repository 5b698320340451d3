/** FLOPs per pass: the forward FLOPs of one sequence, term by term. */
import {
  blockTokens,
  expertChoices,
  expertSlots,
  hasPredictor,
  isRouted,
  type ModelConfig,
  selectedTokens,
} from './config.js';

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
 * softmax 3·H·n²; values 2·n²·D; output 2·n·D²; MLP 4·n·D·F. A multiply-add is two. The causal mask halves nothing.
 * Norms, gelu, rotary positions, residual additions and the gate are left out, as there: they are of order n·D.
 *
 * @param nSquared n², or its mean where n is one
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
 * FLOPs of the training pass of one sequence: every dense block at n = T, every routed one at n = k, with its router
 * 2·T·D and predictor 2·T·(D·P + P) where learned; logits 2·T·D·V. The embedding is a look-up and costs nothing.
 * Where the MLP is experts, those compute all their slots, filled or not: 4·E·slots·D·F in place of 4·n·D·F; their router
 * adds 2·n·D·(E + no-ops) to that term. To hand tokens out and to choose a no-op costs nothing.
 */
export function flopsPerPass(model: ModelConfig): FlopTerms {
  const k = model.routing === null ? 0 : selectedTokens(model.routing.capacity, model.sequence_length);
  return sumOverBlocks(model, () => ({ mean: k, meanSquare: k * k }), { predictor: true, allSlots: true });
}

/** FLOPs per pass of the dense model of the same shape. */
export function denseFlopsPerPass(model: ModelConfig): number {
  return flopsPerPass({ ...model, routing: null, experts: null }).total;
}

/** Tokens of a sequence that a routed block processed, as means over sequences. */
export interface Participation {
  mean: number;
  /** Of the square of their number. */
  meanSquare: number;
}

/**
 * FLOPs of a causal pass, the mean over sequences of what ran: every routed block over the tokens that took part in it,
 * with its router; `predictor` pays for the predictor, `threshold` does not run it. There experts compute the tokens that
 * they have, at most as many as took part or as they have slots for.
 *
 * @param participants one entry a routed block, in order
 */
export function causalFlopsPerPass(
  model: ModelConfig,
  mode: 'predictor' | 'threshold',
  participants: readonly Participation[],
): FlopTerms {
  return sumOverBlocks(model, (routedBlock) => participants[routedBlock] as Participation, {
    predictor: mode === 'predictor',
    allSlots: false,
  });
}

/** Of a block's experts, n tokens before them; null for a model without. */
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

function sumOverBlocks(
  model: ModelConfig,
  participants: (routedBlock: number) => Participation,
  counts: { predictor: boolean; allSlots: boolean },
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
  let routedSoFar = 0;
  for (let i = 0; i < model.n_layers; i++) {
    const routed = isRouted(model, i);
    const { mean, meanSquare } = routed ? participants(routedSoFar) : { mean: T, meanSquare: T * T };
    const terms = blockFlops(model, mean, meanSquare);
    const { mlp, router } = expertFlops(model, i, mean, !counts.allSlots && routed) ?? {
      mlp: terms.mlp,
      router: 0,
    };
    for (const [term, flops] of Object.entries({ ...terms, mlp })) sum[term as keyof BlockTerms] += flops;
    sum.router += router;
    if (!routed || routing === null) continue;
    routedSoFar += 1;
    if (routing.router === 'learned') sum.router += 2 * T * D;
    if (counts.predictor && hasPredictor(routing)) {
      sum.predictor += 2 * T * (D * routing.predictor_hidden + routing.predictor_hidden);
    }
  }
  sum.total = Object.values(sum).reduce((a, b) => a + b, 0);
  return sum;
}
