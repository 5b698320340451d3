/** One block of the transformer: attention, then MLP, for all tokens or for those that a router selects. */
import { type Tensor, zerosLike } from '@tensorflow/tfjs-core';
import { causalAttention } from '../ops/causal-attention.js';
import { gatedScatterAdd } from '../ops/gated-scatter-add.js';
import { gatherTokens } from '../ops/gather-tokens.js';
import { gelu } from '../ops/gelu.js';
import { linear } from '../ops/linear.js';
import { residual } from '../ops/residual.js';
import { addRmsNorm, rmsNorm } from '../ops/rms-norm.js';
import { rotary } from '../ops/rotary.js';
import type { Tape } from '../ops/tape.js';
import { tokenLogits } from '../ops/token-logits.js';
import type { RoutingConfig, RoutingMode } from './config.js';
import type { BlockParameters, RoutedParameters } from './parameters.js';
import { predictorLogits, type Selection, selectByCapacity, selectPositive } from './routing.js';

/** What a routed block decided: for the extra losses, the statistics and the analysis. */
export interface RoutedTrace {
  block: number;
  /** Router weights [B, T]. */
  r: Tensor;
  /** [B, T] float32: 1 where a token went through the block. */
  member: Tensor;
  /** The selected positions [B, k] int32; null where nobody was selected. */
  indices: Tensor | null;
  /** The predictor's logits [B, T]; null without one, or where the mode does not ask it. */
  predictor: Tensor | null;
}

export interface RoutedContext {
  tape: Tape | null;
  table: Tensor;
  routing: RoutingConfig;
  mode: RoutingMode;
  /** r [B, T] of this block for `router: random`. */
  noise: ((block: number) => Tensor) | null;
}

interface Branch {
  /** attention(norm(x)) */
  attention: Tensor;
  /** x + attention */
  middle: Tensor;
  /** mlp(norm(x + attention)) */
  mlp: Tensor;
}

/** The two halves of f(x) = a + mlp(norm(x + a)), a = attention(norm(x)). x [B, n, D], positions [B, n] or null */
function branch(
  tape: Tape | null,
  x: Tensor,
  block: BlockParameters,
  table: Tensor,
  positions: Tensor | null,
): Branch {
  const heads = (x.shape[2] as number) / (table.shape[1] as number);
  const projected = linear(tape, rmsNorm(tape, x, block.attnNorm), block.qkv); // [B, n, 3D]
  const qkv = rotary(tape, projected, table, positions); // [B, n, 3, H, K]
  const attention = linear(tape, causalAttention(tape, qkv, heads), block.attnOut); // [B, n, D]
  const [middle, normed] = addRmsNorm(tape, x, attention, block.mlpNorm);
  const mlp = linear(tape, gelu(tape, linear(tape, normed, block.up)), block.down);
  return { attention, middle, mlp };
}

/** x + f(x) for every token. x [B, T, D] → [B, T, D] */
export function denseBlock(tape: Tape | null, x: Tensor, block: BlockParameters, table: Tensor): Tensor {
  const { middle, mlp } = branch(tape, x, block, table, null);
  return residual(tape, middle, mlp);
}

/**
 * x_t + gate(r_t)·f(x_S)_t for the selected tokens, x_t to the bit for the others (paper, equation 1). The selected
 * attend among themselves, at their original positions. x [B, T, D] → [B, T, D]
 */
export function routedBlock(
  context: RoutedContext,
  x: Tensor,
  index: number,
  block: BlockParameters,
): { x: Tensor; trace: RoutedTrace } {
  const { tape, table, routing, mode } = context;
  const { router, predictor } = block.routed as RoutedParameters;
  const r = router === null ? noiseOf(context, index) : tokenLogits(tape, x, router);
  const asked = predictor !== null && mode !== 'threshold';
  // A handle that the tape does not know: no gradient reaches the trunk.
  const logits = asked ? predictorLogits(tape, x.clone(), predictor) : null;
  const selection = select(r, logits, routing, mode);
  if (selection === null) {
    return {
      x: x.clone(),
      trace: { block: index, r, member: zerosLike(r), indices: null, predictor: logits },
    };
  }
  const { indices, member } = selection;
  const { attention, mlp } = branch(tape, gatherTokens(tape, x, indices), block, table, indices);
  const out = gatedScatterAdd(tape, x, residual(tape, attention, mlp), r, indices, routing.gate);
  return { x: out, trace: { block: index, r, member, indices, predictor: logits } };
}

function noiseOf(context: RoutedContext, index: number): Tensor {
  if (context.noise === null) throw new Error('a model with random routing needs its random numbers');
  return context.noise(index);
}

function select(
  r: Tensor,
  predictor: Tensor | null,
  routing: RoutingConfig,
  mode: RoutingMode,
): Selection | null {
  if (mode === 'topk') return selectByCapacity(r, routing.capacity);
  if (mode === 'threshold') return selectPositive(r);
  if (predictor === null) throw new Error('the mode "predictor" needs a predictor');
  return selectPositive(predictor);
}
