/** Held-out evaluation: the loss of every sequence in one routing mode, and the decisions of the routed blocks. */
import { mean, type Tensor, tensor2d } from '@tensorflow/tfjs-core';
import type { Batch, HeldoutWindows } from '../data/batches.js';
import type { RoutedTrace } from '../model/block.js';
import { type RoutingMode, routedBlocks } from '../model/config.js';
import type { Participation } from '../model/flops.js';
import { drawnWeights, hasPredictor } from '../model/routers.js';
import type { Transformer } from '../model/transformer.js';
import { crossEntropy } from '../ops/cross-entropy.js';
import { scope } from '../ops/scope.js';
import type { LossClusters } from '../results/heldout-losses.js';
import { clusteredMean, RunningMean } from '../statistics.js';
import { addDocuments, emptySums, type LossSums, lossClusters } from './loss-sums.js';
import { type BlockTally, emptyTally, type PredictorScore, scorePredictor } from './tally.js';

export interface EvaluationOptions {
  mode: RoutingMode;
  /** Maximum number of windows, from the first. */
  sequences: number;
  /** Sequences that pass through the model at once. */
  batchSequences: number;
  /** The token that ends a document of the windows; absent or null: unknown, and losses are summed by sequence. */
  endOfText?: number | null;
  /** Seed for routers that draw their weights: the draws depend on seed, block and window only. */
  seed: number;
  /** The state of an interrupted evaluation of the same model on the same windows. */
  from?: EvaluationState | undefined;
  onProgress?: (state: EvaluationState, total: number) => void;
}

/** An evaluation after some of its windows: plain numbers, to be saved and resumed from. */
export interface EvaluationState {
  sequences: number;
  /** Mean, and sum of squared deviations, of the losses of the sequences. */
  loss: { mean: number; squares: number };
  sums: LossSums;
  /** One per routed block, in order. */
  tallies: BlockTally[];
}

export interface Evaluation {
  mode: RoutingMode;
  sequences: number;
  /** LM loss in nats per token. */
  loss: number;
  /** The losses summed by document, or by sequence if documents are unknown. */
  losses: LossClusters;
  /** Standard error of the loss, clustered by them; null for a single one. */
  lossStandardError: number | null;
  /** Share of tokens that each routed block selected, in order. */
  participation: number[];
  /** The number of selected tokens of a sequence, one entry per routed block. */
  participants: Participation[];
  /** Null except in `topk` mode, in which the activations are those of training. */
  predictor: PredictorScore | null;
  /** Accuracy of each routed block's predictor, in order; empty if `predictor` is null. */
  predictorAccuracyByBlock: number[];
}

/** Evaluates a model on the first windows of the held-out data. Yields to the event loop between batches. */
export async function evaluate(
  model: Transformer,
  windows: HeldoutWindows,
  options: EvaluationOptions,
): Promise<Evaluation> {
  const total = Math.min(options.sequences, windows.count);
  const tallies = options.from?.tallies ?? routedBlocks(model.config).map(emptyTally);
  const sums = options.from?.sums ?? emptySums(options.endOfText ?? null);
  const running = new RunningMean(options.from && { count: options.from.sequences, ...options.from.loss });
  while (running.count < total) {
    const first = running.count;
    const sequences = Math.min(options.batchSequences, total - first);
    const batch = windows.read(first, sequences);
    for (const loss of batchLosses(model, batch, first, options, tallies, sums)) running.add(loss);
    const { mean, squares } = running;
    options.onProgress?.({ sequences: running.count, loss: { mean, squares }, sums, tallies }, total);
    await new Promise((resolve) => setImmediate(resolve));
  }
  const length = model.config.sequence_length;
  const { routing } = model.config;
  const losses = lossClusters(sums, length);
  const scored = options.mode === 'topk' && routing !== null && hasPredictor(routing);
  return {
    mode: routing === null ? 'topk' : options.mode,
    sequences: total,
    loss: running.mean,
    lossStandardError:
      losses.unit === 'sequences' ? running.standardError : clusteredMean(losses.clusters).standardError,
    losses,
    participation: tallies.map(({ member }) => member / (total * length)),
    participants: tallies.map(({ member, memberSquares }) => ({
      mean: member / total,
      meanSquare: memberSquares / total,
    })),
    predictor: scored ? scorePredictor(tallies, total * length) : null,
    predictorAccuracyByBlock: scored ? tallies.map(({ agreed }) => agreed / (total * length)) : [],
  };
}

/**
 * The LM loss of each sequence of a batch, in nats per token. Adds the routed blocks' decisions to their tallies, and the
 * losses to their sums.
 */
function batchLosses(
  model: Transformer,
  batch: Batch,
  first: number,
  options: EvaluationOptions,
  tallies: BlockTally[],
  sums: LossSums,
): Float32Array {
  const { sequences } = batch;
  const length = model.config.sequence_length;
  return scope(() => {
    const { logits, routed } = model.forward(tensor2d(batch.inputs, [sequences, length], 'int32'), {
      tape: null,
      mode: options.mode,
      drawn: drawnWeights(model.config, options.seed, 'heldout', first, sequences),
    });
    const losses = crossEntropy(null, logits, tensor2d(batch.targets, [sequences, length], 'int32'));
    routed.forEach((trace, i) => {
      addDecisions(tallies[i] as BlockTally, trace);
    });
    const means = (mean(losses, 1) as Tensor).dataSync() as Float32Array;
    for (const loss of means) sums.sequences.push(loss * length);
    if (sums.documents !== null)
      addDocuments(sums, batch, losses.dataSync() as Float32Array, options.endOfText as number);
    return means;
  });
}

function addDecisions(tally: BlockTally, { mask, predictor }: RoutedTrace): void {
  const [sequences, length] = mask.shape as [number, number];
  const selections = mask.dataSync();
  const logits = predictor?.dataSync() ?? null;
  for (let sequence = 0; sequence < sequences; sequence++) {
    let count = 0;
    for (let i = sequence * length; i < (sequence + 1) * length; i++) {
      const selected = selections[i] === 1;
      if (selected) count += 1;
      if (logits === null) continue;
      const positive = (logits[i] as number) > 0;
      if (positive === selected) tally.agreed += 1;
      if (positive) tally.positive += 1;
      if (positive && selected) tally.truePositive += 1;
    }
    tally.member += count;
    tally.memberSquares += count * count;
  }
}
