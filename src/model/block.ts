/** One block of the transformer: attention, then MLP, for all tokens or for those that a router selects. */
import { reshape, type Tensor, zerosLike } from '@tensorflow/tfjs-core';
import { causalAttention, segmentedAttentionKernel } from '../ops/causal-attention.js';
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
import { predictorLogits, selectByCapacity, selectPositive } from './routing.js';

/** What a routed block decided: for the extra losses, the statistics and the analysis. */
export interface RoutedTrace {
  block: number;
  /** Router weights [B, T]. */
  r: Tensor;
  /** [B, T] float32: 1 where a token went through the block. */
  member: Tensor;
  /** The selected positions [B, k] int32 under `topk`; null in the causal modes. */
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

/** Which rows attend to which, and where they stand. */
interface Placement {
  /** [B, n] int32; null: row t has position t. */
  positions: Tensor | null;
  /** The lengths of the sequences that are packed into one row of tokens; null: each row of the batch is one. */
  lengths: number[] | null;
}

const IN_ORDER: Placement = { positions: null, lengths: null };

/** The two halves of f(x) = a + mlp(norm(x + a)), a = attention(norm(x)). x [B, n, D] */
function branch(
  tape: Tape | null,
  x: Tensor,
  block: BlockParameters,
  table: Tensor,
  { positions, lengths }: Placement,
): Branch {
  const heads = (x.shape[2] as number) / (table.shape[1] as number);
  const projected = linear(tape, rmsNorm(tape, x, block.attnNorm), block.qkv); // [B, n, 3D]
  const qkv = rotary(tape, projected, table, positions); // [B, n, 3, H, K]
  const attended =
    lengths === null
      ? causalAttention(tape, qkv, heads)
      : segmentedAttentionKernel({ qkv }, { heads, lengths })[0];
  const attention = linear(tape, attended, block.attnOut); // [B, n, D]
  const [middle, normed] = addRmsNorm(tape, x, attention, block.mlpNorm);
  const mlp = linear(tape, gelu(tape, linear(tape, normed, block.up)), block.down);
  return { attention, middle, mlp };
}

/** x + f(x) for every token. x [B, T, D] → [B, T, D] */
export function denseBlock(tape: Tape | null, x: Tensor, block: BlockParameters, table: Tensor): Tensor {
  const { middle, mlp } = branch(tape, x, block, table, IN_ORDER);
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
  const { tape, routing, mode } = context;
  const { router, predictor } = block.routed as RoutedParameters;
  const r = router === null ? noiseOf(context, index) : tokenLogits(tape, x, router);
  const asked = predictor !== null && mode !== 'threshold';
  // A handle that the tape does not know: no gradient reaches the trunk.
  const logits = asked ? predictorLogits(tape, x.clone(), predictor) : null;
  const trace = { block: index, r, indices: null, predictor: logits };
  if (mode !== 'topk') {
    const passed = packedBlock(context, x, r, mode === 'predictor' ? logits : r, block);
    return { x: passed.x, trace: { ...trace, member: passed.member } };
  }
  const { indices, member } = selectByCapacity(r, routing.capacity);
  const { attention, mlp } = branch(tape, gatherTokens(tape, x, indices), block, context.table, {
    positions: indices,
    lengths: null,
  });
  const out = gatedScatterAdd(tape, x, residual(tape, attention, mlp), r, indices, routing.gate);
  return { x: out, trace: { ...trace, member, indices } };
}

/** A routed block in a causal mode: the tokens whose logit is above 0, of all sequences packed into one row. */
function packedBlock(
  { tape, table, routing, mode }: RoutedContext,
  x: Tensor,
  r: Tensor,
  logits: Tensor | null,
  block: BlockParameters,
): { x: Tensor; member: Tensor } {
  if (logits === null) throw new Error(`the mode "${mode}" needs a predictor`);
  if (tape !== null) throw new Error(`the mode "${mode}" is for evaluation: training selects by top-k`);
  const selection = selectPositive(logits);
  if (selection === null) return { x: x.clone(), member: zerosLike(r) };
  const { rows, positions, lengths, member } = selection;
  const [batch, length, width] = x.shape as [number, number, number];
  const packed = reshape(x, [1, batch * length, width]);
  const { attention, mlp } = branch(null, gatherTokens(null, packed, rows), block, table, {
    positions,
    lengths,
  });
  const weights = reshape(r, [1, batch * length]);
  const out = gatedScatterAdd(null, packed, residual(null, attention, mlp), weights, rows, routing.gate);
  return { x: reshape(out, x.shape), member };
}

function noiseOf(context: RoutedContext, index: number): Tensor {
  if (context.noise === null) throw new Error('a model with random routing needs its random numbers');
  return context.noise(index);
}
