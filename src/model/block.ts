/**
 * One block of the transformer. A dense block gives x + f(x) with f(x) = a + ρ·mlp(norm(x + a)), a = ρ·attention(norm(x)), ρ
 * the residual multiplier; a routed block applies f to the tokens that its router selects (`routedBlock`: paper, equation 1).
 */
import { reshape, type Tensor, zerosLike } from '@tensorflow/tfjs-core';
import { varlenAttentionKernel } from '../ops/causal-attention.js';
import { gatedScatterAdd } from '../ops/gated-scatter-add.js';
import { gatherTokens } from '../ops/gather-tokens.js';
import { linear } from '../ops/linear.js';
import { mlp } from '../ops/mlp.js';
import { accumulatePredictorGrad, predictorLogits } from '../ops/predictor-logits.js';
import { residual } from '../ops/residual.js';
import { addRmsNorm, rmsNorm } from '../ops/rms-norm.js';
import { rotaryKernel } from '../ops/rotary.js';
import { rotaryAttention } from '../ops/rotary-attention.js';
import type { Tape } from '../ops/tape.js';
import { varyingShapes } from '../ops/varying-shapes.js';
import type { CausalMode, ExpertsConfig, ModelConfig, RoutingConfig, RoutingMode } from './config.js';
import {
  type Assign,
  addExperts,
  assignOnDevice,
  ExpertOccupancy,
  type ExpertTrace,
  emptyTrace,
} from './experts.js';
import type { BlockParameters } from './parameters.js';
import { type DrawnWeights, ROUTERS, type RoutedParameters } from './routers.js';
import { decisionOf, MODES } from './routing-modes.js';
import { selectAbove, selectByCapacity } from './selection.js';
import { normOf, type Stream } from './stream.js';

/** What a routed block decided: for the auxiliary losses, the statistics and the analysis. */
export interface RoutedTrace {
  block: number;
  /** Router weights [B, T]. */
  r: Tensor;
  /** [B, T] float32: 1 for a selected token, else 0. */
  mask: Tensor;
  /** The selected positions [B, k] int32 under `topk`; null in the causal modes. */
  indices: Tensor | null;
  /** Logits of the predictor [B, T]; null without one, in training, and in a mode that does not run it. */
  predictor: Tensor | null;
  /** In training: the share of tokens whose selection the predictor predicts correctly, a scalar; null without one. */
  predictorCorrect: Tensor | null;
}

/** The experts of a block, and how many slots each has in a sequence. */
export interface BlockExperts {
  config: ExpertsConfig;
  slots: number;
}

export interface BlockContext {
  tape: Tape | null;
  /** Cosines and sines of the rotary positions, [P, K]. */
  table: Tensor;
  /** Absent or null: one MLP for all tokens. */
  experts?: BlockExperts | null;
  /** ρ: the factor of the outputs of attention and MLP. */
  residualMultiplier: number;
  /** Receives the rotated projections, and the lengths of the sequences if these are packed in one row, else null. */
  onKeys?: (qkv: Tensor, lengths: number[] | null) => void;
}

export interface RoutedContext extends BlockContext {
  model: ModelConfig;
  routing: RoutingConfig;
  mode: RoutingMode;
  /** Router weights for a router that draws them; else null. */
  drawn: DrawnWeights | null;
  /** The block's running quantile, for the mode `quantile`; absent or null if unknown. */
  threshold?: number | null;
  /** Factor of the predictor's loss in training; 1 if absent. */
  lossScale?: number;
}

interface AttentionHalf {
  /** a = ρ·attention(norm(x)) [B, n, D] */
  attention: Tensor;
  /** x + a [B, n, D] */
  middle: Tensor;
  /** norm(x + a) [B, n, D]: the input of the MLP. */
  normed: Tensor;
}

/** The output x [B, n, D] of a block, and what its experts did; null without experts. */
export interface BlockOutput {
  x: Tensor;
  experts: ExpertTrace | null;
}

/** BlockOutput whose last addition is left to the next reader of the stream. */
export interface StreamOutput {
  stream: Stream;
  experts: ExpertTrace | null;
}

/** Attention: projections qkv [B, n, 3D], which are consumed → the heads' outputs [B, n, D]. */
type Attend = (qkv: Tensor) => Tensor;

/** The first half of f: a = ρ·attention(norm(x)), and norm(x + a). x [B, n, D] */
export function attentionHalf(
  context: Pick<BlockContext, 'tape' | 'residualMultiplier'>,
  x: Tensor,
  block: BlockParameters,
  attend: Attend,
): AttentionHalf {
  return attentionHalfOfNormed(context, x, rmsNorm(context.tape, x, block.attnNorm), block, attend);
}

/** attentionHalf of an x whose norm is known. x, normedX [B, n, D] */
function attentionHalfOfNormed(
  { tape, residualMultiplier }: Pick<BlockContext, 'tape' | 'residualMultiplier'>,
  x: Tensor,
  normedX: Tensor,
  block: BlockParameters,
  attend: Attend,
): AttentionHalf {
  const qkv = linear(tape, normedX, block.qkv); // [B, n, D] → [B, n, 3D]
  const attention = linear(tape, attend(qkv), block.attnOut, residualMultiplier); // [B, n, 3D] → [B, n, D]
  const [middle, normed] = addRmsNorm(tape, x, attention, block.mlpNorm); // [B, n, D] each
  return { attention, middle, normed };
}

/**
 * The second half of f: to + ρ·mlp(normed); the MLP is the block's experts if it has them. to, normed [B, n, D] → [B, n, D]
 *
 * @param assign gives the tokens of each expert; not called for a block without experts
 */
export function addMlp(
  { tape, experts, residualMultiplier }: Pick<BlockContext, 'tape' | 'experts' | 'residualMultiplier'>,
  to: Tensor,
  normed: Tensor,
  { expertRouter, up, down }: BlockParameters,
  index: number,
  assign: (experts: BlockExperts) => Assign = ({ config, slots }) => assignOnDevice(config, slots),
): BlockOutput {
  if (expertRouter === null) {
    return { x: residual(tape, to, mlp(tape, normed, up, down, residualMultiplier)), experts: null };
  }
  if (experts === undefined || experts === null)
    throw new Error('a block with experts was run without their config');
  const parameters = { expertRouter, up, down };
  const work = { config: experts.config, assign: assign(experts), residualMultiplier };
  const { sum, trace } = addExperts(tape, to, normed, parameters, work, index);
  return { x: sum, experts: trace };
}

/**
 * Causal attention within each row of the batch.
 *
 * @param positions [B, n] int32; null: token t of a row has position t
 */
function attendWithin({ tape, table, onKeys }: BlockContext, positions: Tensor | null): Attend {
  return (qkv) => {
    const [out, rotated] = rotaryAttention(tape, qkv, table, positions); // [B, n, D], [B, n, 3D]
    onKeys?.(rotated, null);
    return out;
  };
}

/** x + f(x) for every token. x [B, T, D] → [B, T, D] */
export function denseBlock(
  context: BlockContext,
  stream: Stream,
  index: number,
  block: BlockParameters,
): StreamOutput {
  const { tape, residualMultiplier } = context;
  const [x, normedX] = normOf(tape, stream, block.attnNorm); // [B, T, D] each
  const { middle, normed } = attentionHalfOfNormed(context, x, normedX, block, attendWithin(context, null));
  if (block.expertRouter === null) {
    return {
      stream: { x: middle, branch: mlp(tape, normed, block.up, block.down, residualMultiplier) },
      experts: null,
    };
  }
  const added = addMlp(context, middle, normed, block, index);
  return { stream: { x: added.x, branch: null }, experts: added.experts };
}

/**
 * A routed block (Raposo et al. 2024, equation 1), for each sequence on its own:
 *
 *     x'_t = x_t + gate(r_t) · f(x_S)_t   for t in S, the selected tokens
 *     x'_t = x_t                          for the others, bit for bit
 *
 * with the router weights r; S is the tokens with the k largest r (`topk`) or those that a causal mode decides for
 * (`decisionOf`). The selected tokens attend to each other, at their original positions. x [B, T, D] → [B, T, D]
 */
export function routedBlock(
  context: RoutedContext,
  stream: Stream,
  index: number,
  block: BlockParameters,
): StreamOutput & { trace: RoutedTrace } {
  const { model, tape, routing, mode, drawn } = context;
  const parameters = routedParameters(block);
  const input = { model, routing, tape, stream, parameters, block: index, drawn };
  const [x, r] = ROUTERS[routing.router].weights(input); // [B, T, D], [B, T]
  const output =
    mode === 'topk' ? topKBlock(context, x, r, index, block) : packedBlock(context, mode, x, r, index, block);
  const trace = { block: index, r, ...output.trace };
  return { stream: { x: output.x, branch: null }, experts: output.experts, trace };
}

type RoutedOutput = BlockOutput & { trace: Omit<RoutedTrace, 'block' | 'r'> };

/** Equation 1 with S the tokens with the k largest router weights of each sequence: the training pass. x [B, T, D], r [B, T] */
function topKBlock(
  context: RoutedContext,
  x: Tensor,
  r: Tensor,
  index: number,
  block: BlockParameters,
): RoutedOutput {
  const { tape, routing } = context;
  const parameters = routedParameters(block);
  const { predictor } = parameters;
  const logits = predictor !== null && tape === null ? predictorLogits(x, predictor) : null; // [B, T]
  const { indices, mask } = selectByCapacity(r, routing.capacity); // [B, k], [B, T]
  // Computed before the block's output overwrites x. The predictor's gradient does not reach the trunk.
  const predictorCorrect =
    predictor !== null && tape !== null
      ? accumulatePredictorGrad(x, predictor, mask, context.lossScale ?? 1)
      : null;
  const everyWeight = routing.aux_loss_weight !== 0;
  const gathered = ROUTERS[routing.router].gather({ tape, x, r, indices, parameters, everyWeight });
  const rows = gathered.rows; // x_S [B, k, D]
  const { attention, normed } = attentionHalf(context, rows, block, attendWithin(context, indices)); // [B, k, D] each
  const f = addMlp(context, attention, normed, block, index); // f(x_S) [B, k, D]
  const out = gatedScatterAdd(tape, x, f.x, r, indices, routing.gate, !gathered.isSaved); // [B, T, D]
  return { x: out, experts: f.experts, trace: { mask, indices, predictor: logits, predictorCorrect } };
}

/**
 * Equation 1 with S the tokens whose logit is above a number: evaluation in a causal mode. The selected tokens of all sequences,
 * N in total, are packed into one row. x [B, T, D], r [B, T]
 */
function packedBlock(
  context: RoutedContext,
  mode: CausalMode,
  x: Tensor,
  r: Tensor,
  index: number,
  block: BlockParameters,
): RoutedOutput {
  const { tape, routing, experts, table, onKeys } = context;
  if (tape !== null) throw new Error(`the mode "${mode}" is for evaluation: training selects by top-k`);
  const { predictor } = routedParameters(block);
  const logits = predictor !== null && MODES[mode].runsPredictor ? predictorLogits(x, predictor) : null; // [B, T]
  const trace = { indices: null, predictor: logits, predictorCorrect: null };
  const selection = selectAbove(
    decisionOf(mode, { r, predictor: logits, threshold: context.threshold ?? null }),
  );
  const [batch, length, width] = x.shape as [number, number, number];
  if (selection === null) {
    const none = experts ? emptyTrace(experts.config, batch, index) : null;
    return { x: x.clone(), experts: none, trace: { ...trace, mask: zerosLike(r) } };
  }
  const { rows: indices, positions, lengths, mask } = selection; // [1, N], [1, N], [B], [B, T]
  const heads = width / (table.shape[1] as number);
  const tokens = reshape(x, [1, batch * length, width]); // [B, T, D] → [1, B·T, D]
  const weights = reshape(r, [1, batch * length]); // [B, T] → [1, B·T]
  const sequenceOf = lengths.flatMap((selected, sequence) => Array<number>(selected).fill(sequence)); // [N]
  return varyingShapes(() => {
    const rows = gatherTokens(null, tokens, indices); // x_S [1, N, D]
    const { attention, normed } = attentionHalf(context, rows, block, (projected) => {
      const [qkv] = rotaryKernel({ qkv: projected, table, positions }, {}); // [1, N, 3D]
      onKeys?.(qkv, lengths);
      return varlenAttentionKernel({ qkv }, { heads, lengths })[0]; // [1, N, D]
    });
    const f = addMlp(context, attention, normed, block, index, ({ config, slots }) =>
      new ExpertOccupancy(config, slots, batch).assign(sequenceOf),
    ); // f(x_S) [1, N, D]
    const out = gatedScatterAdd(null, tokens, f.x, weights, indices, routing.gate, true); // [1, B·T, D]
    return { x: reshape(out, x.shape), experts: f.experts, trace: { ...trace, mask } };
  });
}

function routedParameters({ routed }: BlockParameters): RoutedParameters {
  if (routed === null) throw new Error('a dense block was run as a routed one');
  return routed;
}
