/** One block of the transformer: attention, then MLP, for all tokens or for those that a router selects. */
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
import { routedGather } from '../ops/routed-gather.js';
import { addRouterLogits, recordRouterLogits, routerLogits } from '../ops/router-logits.js';
import type { Parameter, Tape } from '../ops/tape.js';
import type { ExpertsConfig, RoutingConfig, RoutingMode } from './config.js';
import {
  type Assign,
  addExperts,
  assignOnDevice,
  ExpertOccupancy,
  type ExpertTrace,
  emptyTrace,
} from './experts.js';
import type { BlockParameters, RoutedParameters } from './parameters.js';
import { type Selection, selectByCapacity, selectPositive } from './routing.js';

/** What a routed block decided: for the extra losses, the statistics and the analysis. */
export interface RoutedTrace {
  block: number;
  /** Router weights [B, T]. */
  r: Tensor;
  /** [B, T] float32: 1 where a token went through the block. */
  mask: Tensor;
  /** The selected positions [B, k] int32 under `topk`; null in the causal modes. */
  indices: Tensor | null;
  /** The predictor's logits [B, T]; null without one, where the mode does not ask it, and where it learns instead. */
  predictor: Tensor | null;
  /** In training: the share of the tokens whose selection the predictor foresaw, a scalar; null without one. */
  predictorCorrect: Tensor | null;
}

/** The experts of a block, and how many slots each has in a sequence. */
export interface BlockExperts {
  config: ExpertsConfig;
  slots: number;
}

export interface BlockContext {
  tape: Tape | null;
  /** Of the rotary positions. */
  table: Tensor;
  /** Absent or null: one MLP for all tokens. */
  experts?: BlockExperts | null;
  /** Told of the rotated projections, and of the lengths of the sequences that are packed in them, if they are. */
  onKeys?: (qkv: Tensor, lengths: number[] | null) => void;
}

export interface RoutedContext extends BlockContext {
  routing: RoutingConfig;
  mode: RoutingMode;
  /** r [B, T] of this block for `router: random`. */
  noise: ((block: number) => Tensor) | null;
  /** The weight with which its predictor learns, in training. */
  share?: number;
}

interface AttentionHalf {
  /** attention(norm(x)) */
  attention: Tensor;
  /** x + attention */
  middle: Tensor;
  /** norm(x + attention): what the MLP reads. */
  normed: Tensor;
}

/**
 * The residual stream between two blocks: x, or x + branch, which whoever reads it adds in one pass with its own work. A
 * block takes it over: what a routed block adds may take its place.
 */
export interface Stream {
  x: Tensor;
  branch: Tensor | null;
}

/** What a block gives, and what its experts did; null without experts. */
export interface BlockOutput {
  x: Tensor;
  experts: ExpertTrace | null;
}

/** The same where the last addition is left to the next reader. */
export interface StreamOutput {
  stream: Stream;
  experts: ExpertTrace | null;
}

/** The stream as one tensor. */
export function sumOf(tape: Tape | null, { x, branch }: Stream): Tensor {
  return branch === null ? x : residual(tape, x, branch);
}

/** [the stream as one tensor, its norm] */
export function normOf(tape: Tape | null, { x, branch }: Stream, gain: Parameter): [sum: Tensor, y: Tensor] {
  return branch === null ? [x, rmsNorm(tape, x, gain)] : addRmsNorm(tape, x, branch, gain);
}

/**
 * The first half of f(x) = a + mlp(norm(x + a)): a = attention(norm(x)). x [B, n, D]
 *
 * @param attend from the projections [B, n, 3D], dead afterwards, to what the heads gather, [B, n, D]
 */
export function attentionHalf(
  tape: Tape | null,
  x: Tensor,
  block: BlockParameters,
  attend: (qkv: Tensor) => Tensor,
): AttentionHalf {
  return attentionOf(tape, x, rmsNorm(tape, x, block.attnNorm), block, attend);
}

/** The same of an x whose norm is known. */
function attentionOf(
  tape: Tape | null,
  x: Tensor,
  normedX: Tensor,
  block: BlockParameters,
  attend: (qkv: Tensor) => Tensor,
): AttentionHalf {
  const qkv = linear(tape, normedX, block.qkv); // [B, n, 3D]
  const attention = linear(tape, attend(qkv), block.attnOut); // [B, n, D]
  const [middle, normed] = addRmsNorm(tape, x, attention, block.mlpNorm);
  return { attention, middle, normed };
}

/**
 * The second half: to + mlp(normed), by experts where the block has them. to, normed [B, n, D]
 *
 * @param assign which tokens the experts take; not asked where there are none
 */
export function addMlp(
  { tape, experts }: Pick<BlockContext, 'tape' | 'experts'>,
  to: Tensor,
  normed: Tensor,
  { expertRouter, up, down }: BlockParameters,
  index: number,
  assign: (experts: BlockExperts) => Assign = ({ config, slots }) => assignOnDevice(config, slots),
): BlockOutput {
  if (expertRouter === null) {
    return { x: residual(tape, to, mlp(tape, normed, up, down)), experts: null };
  }
  if (experts === undefined || experts === null) throw new Error('a block of experts needs to know them');
  const parameters = { expertRouter, up, down };
  const { sum, trace } = addExperts(tape, to, normed, parameters, experts.config, assign(experts), index);
  return { x: sum, experts: trace };
}

/** Heads of a model, as its rotary table and the width of its residual stream tell. */
function headsOf(x: Tensor, table: Tensor): number {
  return (x.shape[2] as number) / (table.shape[1] as number);
}

/**
 * Every row of the batch attends within itself.
 *
 * @param positions [B, n] int32; null: row t has position t
 */
function attendWithin(
  { tape, table, onKeys }: BlockContext,
  positions: Tensor | null,
): (qkv: Tensor) => Tensor {
  return (qkv) => {
    const [out, rotated] = rotaryAttention(tape, qkv, table, positions);
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
  const { tape } = context;
  const [x, normedX] = normOf(tape, stream, block.attnNorm);
  const { middle, normed } = attentionOf(tape, x, normedX, block, attendWithin(context, null));
  if (block.expertRouter === null) {
    return { stream: { x: middle, branch: mlp(tape, normed, block.up, block.down) }, experts: null };
  }
  const added = addMlp(context, middle, normed, block, index);
  return { stream: { x: added.x, branch: null }, experts: added.experts };
}

/**
 * x_t + gate(r_t)·f(x_S)_t for the selected tokens, x_t to the bit for the others (paper, equation 1). The selected
 * attend among themselves, at their original positions. x [B, T, D] → [B, T, D]
 */
export function routedBlock(
  context: RoutedContext,
  stream: Stream,
  index: number,
  block: BlockParameters,
): StreamOutput & { trace: RoutedTrace } {
  const { tape, routing, mode } = context;
  const { router, predictor } = block.routed as RoutedParameters;
  const [x, r] = routerWeights(context, stream, index, router);
  const asked = predictor !== null && mode !== 'threshold' && tape === null;
  const logits = asked ? predictorLogits(x, predictor) : null;
  const trace = { block: index, r, indices: null, predictor: logits, predictorCorrect: null };
  const whole = (sum: Tensor): Stream => ({ x: sum, branch: null });
  if (mode !== 'topk') {
    const deciding = mode === 'predictor' ? logits : r;
    const packed = packedBlock(context, x, index, r, deciding, block);
    return { stream: whole(packed.x), experts: packed.experts, trace: { ...trace, mask: packed.mask } };
  }
  const { indices, mask } = selectByCapacity(r, routing.capacity);
  // Before the block's output takes x's place; no gradient reaches the trunk.
  const learns = predictor !== null && tape !== null;
  const predictorCorrect = learns ? accumulatePredictorGrad(x, predictor, mask, context.share ?? 1) : null;
  const { rows, isSaved } = take(context, x, r, router, indices);
  const { attention, normed } = attentionHalf(tape, rows, block, attendWithin(context, indices));
  const added = addMlp(context, attention, normed, block, index);
  const out = gatedScatterAdd(tape, x, added.x, r, indices, routing.gate, !isSaved);
  return {
    stream: whole(out),
    experts: added.experts,
    trace: { ...trace, mask, indices, predictorCorrect },
  };
}

/** x at the indices [B, k, D], and whether the tape has saved x: where every token's r is to get a gradient. */
function take(
  { tape, routing }: RoutedContext,
  x: Tensor,
  r: Tensor,
  router: Parameter | null,
  indices: Selection['indices'],
): { rows: Tensor; isSaved: boolean } {
  if (router === null) return { rows: gatherTokens(tape, x, indices), isSaved: false };
  if (routing.aux_loss_weight === 0 || tape === null)
    return { rows: routedGather(tape, x, r, router, indices), isSaved: false };
  recordRouterLogits(tape, x, r, router);
  return { rows: gatherTokens(tape, x, indices), isSaved: true };
}

/** [the stream as one tensor, r [B, T]] */
function routerWeights(
  context: RoutedContext,
  stream: Stream,
  index: number,
  router: Parameter | null,
): [sum: Tensor, r: Tensor] {
  const { tape } = context;
  const { x, branch } = stream;
  if (router === null) return [sumOf(tape, stream), noiseOf(context, index)];
  return branch === null ? [x, routerLogits(x, router)] : addRouterLogits(tape, x, branch, router);
}

/** A routed block in a causal mode: the tokens whose logit is above 0, of all sequences packed into one row. */
function packedBlock(
  context: RoutedContext,
  x: Tensor,
  index: number,
  r: Tensor,
  logits: Tensor | null,
  block: BlockParameters,
): BlockOutput & { mask: Tensor } {
  const { tape, routing, mode, experts } = context;
  if (logits === null) throw new Error(`the mode "${mode}" needs a predictor`);
  if (tape !== null) throw new Error(`the mode "${mode}" is for evaluation: training selects by top-k`);
  const selection = selectPositive(logits);
  const [batch, length, width] = x.shape as [number, number, number];
  if (selection === null) {
    const none = experts ? emptyTrace(experts.config, batch, index) : null;
    return { x: x.clone(), experts: none, mask: zerosLike(r) };
  }
  const { rows, positions, lengths, mask } = selection;
  const packed = reshape(x, [1, batch * length, width]);
  const heads = headsOf(x, context.table);
  const taken = gatherTokens(null, packed, rows);
  const { attention, normed } = attentionHalf(null, taken, block, (projected) => {
    const [qkv] = rotaryKernel({ qkv: projected, table: context.table, positions }, {});
    context.onKeys?.(qkv, lengths);
    return varlenAttentionKernel({ qkv }, { heads, lengths })[0];
  });
  const weights = reshape(r, [1, batch * length]);
  const sequenceOf = lengths.flatMap((taken, sequence) => Array<number>(taken).fill(sequence));
  const added = addMlp(context, attention, normed, block, index, ({ config, slots }) =>
    new ExpertOccupancy(config, slots, batch).assign(sequenceOf),
  );
  const out = gatedScatterAdd(null, packed, added.x, weights, rows, routing.gate, true);
  return { x: reshape(out, x.shape), experts: added.experts, mask };
}

function noiseOf(context: RoutedContext, index: number): Tensor {
  if (context.noise === null) throw new Error('a model with random routing needs its random numbers');
  return context.noise(index);
}
