/** The transformer: embedding, blocks, final norm, logits; written in ops, independent of the backend. */
import { keep, slice, type Tensor } from '@tensorflow/tfjs-core';
import { embedding } from '../ops/embedding.js';
import { linear } from '../ops/linear.js';
import { rotaryTable } from '../ops/rotary.js';
import { scope } from '../ops/scope.js';
import { discard, type Parameter, type Tape } from '../ops/tape.js';
import { type BlockExperts, denseBlock, type RoutedTrace, routedBlock, type StreamOutput } from './block.js';
import { blockTokens, expertSlots, type ModelConfig, type RoutingMode, routedBlocks } from './config.js';
import type { ExpertTrace } from './experts.js';
import {
  listParameters,
  makeParameters,
  type TensorSource,
  type TransformerParameters,
} from './parameters.js';
import { type Multipliers, multipliersOf, type ShapeScale } from './parametrization.js';
import type { DrawnWeights } from './routers.js';
import { normOf, type Stream } from './stream.js';

export interface ForwardOptions {
  /** Null: nothing is saved for a backward pass. */
  tape: Tape | null;
  mode: RoutingMode;
  /** Router weights of each block for a router that draws them (`drawnWeights`); null for the others. */
  drawn: DrawnWeights | null;
  /**
   * Factor of the predictors' loss in training; 1 if absent. Predictors learn during the forward pass, which adds to their
   * gradients.
   */
  lossScale?: number;
  /**
   * Receives each block's rotated projections before they are freed: [B, n, 3D], or [1, N, 3D] packed from sequences of
   * these lengths. A decoder's caches start from them.
   */
  onKeys?: (block: number, qkv: Tensor, lengths: number[] | null) => void;
  /** Receives the residual stream after the last block, before it is freed. */
  onStream?: (stream: Stream) => void;
  /** Computes logits of the last token of each sequence alone, without a tape: V numbers a token are most of a prompt's memory. */
  onlyLast?: boolean;
}

export interface ForwardResult {
  /** [B, T, V], or with `onlyLast` [B, 1, V] */
  logits: Tensor;
  /** One per routed block, in order. */
  routed: RoutedTrace[];
  /** One per block with experts, in order. */
  experts: ExpertTrace[];
}

export class Transformer {
  readonly parameters: Parameter[];
  readonly tree: TransformerParameters;
  /**
   * θ of each routed block, in order: the running quantile of its router weights in training, -infinity if it selects every
   * token. Null if unknown: before training, in checkpoints of older versions, and without a router that has it.
   */
  thresholds: readonly number[] | null = null;
  readonly multipliers: Multipliers;
  /** Cosines and sines [T + 1, K] of the rotary positions, times a factor of q and k: position T marks padding. */
  readonly table: Tensor;

  constructor(
    readonly config: ModelConfig,
    source: TensorSource,
    scale?: ShapeScale,
  ) {
    this.tree = makeParameters(config, source, scale);
    this.multipliers = multipliersOf(config);
    this.parameters = listParameters(this.tree);
    const size = config.d_model / config.n_heads;
    // The kernels divide q·k by √K. Rotated by factors that are larger by √(multiplier·√K), q and k have the multiplier's product.
    const factor = Math.sqrt(this.multipliers.attention / (1 / Math.sqrt(size)));
    this.table = keep(rotaryTable(config.sequence_length + 1, size, factor));
    for (const parameter of this.parameters) keep(parameter.value);
  }

  /**
   * The logits of every token, or of the last ones. tokens [B, T] int32, T at most the model's sequence length. Call it in a scope: the caller
   * owns the results.
   */
  forward(tokens: Tensor, options: ForwardOptions): ForwardResult {
    const { tape } = options;
    const routed: RoutedTrace[] = [];
    const experts: ExpertTrace[] = [];
    const embedded = embedding(tape, this.tree.tokenEmbedding, tokens); // [B, T, D]
    let stream: Stream = { x: embedded, branch: null };
    this.tree.blocks.forEach((_, i) => {
      // The scope frees the block's tensors that the tape has not saved.
      const output = scope(() => this.block(stream, i, options));
      release(stream);
      stream = output.stream;
      if (output.trace !== null) routed.push(output.trace);
      if (output.experts !== null) experts.push(output.experts);
    });
    options.onStream?.(stream);
    const logits = scope(() => {
      const head = this.tree.lmHead ?? this.tree.tokenEmbedding;
      const [, normed] = normOf(tape, stream, this.tree.finalNorm); // [B, T, D]
      return linear(tape, options.onlyLast ? lastOf(normed) : normed, head, this.multipliers.logits);
    });
    release(stream);
    return { logits, routed, experts };
  }

  dispose(): void {
    this.table.dispose();
    for (const parameter of this.parameters) {
      parameter.clearGrad();
      parameter.value.dispose();
    }
  }

  /** The experts of a block and their slots; null for a model without experts. */
  expertsOf(block: number): BlockExperts | null {
    const { experts } = this.config;
    return experts === null
      ? null
      : { config: experts, slots: expertSlots(experts, blockTokens(this.config, block)) };
  }

  /** θ of a routed block; null if unknown. */
  thresholdOf(block: number): number | null {
    return this.thresholds?.[routedBlocks(this.config).indexOf(block)] ?? null;
  }

  private block(
    stream: Stream,
    i: number,
    options: ForwardOptions,
  ): StreamOutput & { trace: RoutedTrace | null } {
    const block = this.tree.blocks[i];
    const { routing } = this.config;
    const { table } = this;
    if (block === undefined) throw new Error(`there is no block ${i}`);
    const { onKeys: onBlockKeys, onStream: _, ...rest } = options;
    const experts = this.expertsOf(i);
    const onKeys = (qkv: Tensor, lengths: number[] | null) => onBlockKeys?.(i, qkv, lengths);
    const context = { ...rest, table, experts, onKeys, residualMultiplier: this.multipliers.residual };
    if (block.routed === null || routing === null) {
      return { ...denseBlock(context, stream, i, block), trace: null };
    }
    const routed = { ...context, model: this.config, routing, threshold: this.thresholdOf(i) };
    return routedBlock(routed, stream, i, block);
  }
}

/** Frees a stream that a block has read, unless a tape has saved it. */
function release({ x, branch }: Stream): void {
  discard(x);
  if (branch !== null) discard(branch);
}

/** x [B, T, D] → its last row of each sequence [B, 1, D] */
function lastOf(x: Tensor): Tensor {
  const [batch, length, width] = x.shape as [number, number, number];
  return slice(x, [0, length - 1, 0], [batch, 1, width]);
}
