/** Held-out evaluation: the loss of every sequence in one routing mode, and what the routed blocks decided. */
import { mean, type Tensor, tensor2d } from '@tensorflow/tfjs-core';
import type { Batch, HeldoutWindows } from '../data/batches.js';
import type { RoutedTrace } from '../model/block.js';
import { hasPredictor, type RoutingMode, routedBlockCount } from '../model/config.js';
import type { Participation } from '../model/flops.js';
import { routerNoise } from '../model/noise.js';
import type { Transformer } from '../model/transformer.js';
import { crossEntropy } from '../ops/cross-entropy.js';
import { scope } from '../ops/scope.js';
import { RunningMean } from '../statistics.js';
import { type BlockTally, emptyTally, type PredictorScore, scorePredictor } from './tally.js';

export interface EvaluationOptions {
  mode: RoutingMode;
  /** At most this many windows, from the first. */
  sequences: number;
  /** Sequences that pass through the model at once. */
  batchSequences: number;
  /** Seed of the random router's draws, which depend on the window and nothing else. */
  seed: number;
  /** Where an earlier evaluation of the same model on the same windows was broken off. */
  from?: EvaluationState | undefined;
  onProgress?: (state: EvaluationState, total: number) => void;
}

/** All that an evaluation knows after some of its windows: plain numbers, to be saved and gone on from. */
export interface EvaluationState {
  sequences: number;
  /** Of the losses of the sequences. */
  loss: { mean: number; squares: number };
  /** One a routed block. */
  tallies: BlockTally[];
}

export interface Evaluation {
  mode: RoutingMode;
  sequences: number;
  /** LM loss in nats a token. */
  loss: number;
  /** Standard error of the loss over sequences; null for a single one. */
  lossStandardError: number | null;
  /** Mean share of tokens that took part, one number a routed block. */
  participation: number[];
  /** The tokens of a sequence that took part, one entry a routed block. */
  participants: Participation[];
  /** In `topk` mode alone: there the activations are those of training. */
  predictor: PredictorScore | null;
  /** Accuracy of each routed block's predictor, in order; empty where `predictor` is null. */
  predictorAccuracyByBlock: number[];
}

/** Evaluates on windows 0.. of the held-out data. Yields to the event loop between batches. */
export async function evaluate(
  model: Transformer,
  windows: HeldoutWindows,
  options: EvaluationOptions,
): Promise<Evaluation> {
  const total = Math.min(options.sequences, windows.count);
  const tallies = options.from?.tallies ?? Array.from({ length: routedBlockCount(model.config) }, emptyTally);
  const losses = new RunningMean(options.from && { count: options.from.sequences, ...options.from.loss });
  while (losses.count < total) {
    const first = losses.count;
    const sequences = Math.min(options.batchSequences, total - first);
    const batch = windows.read(first, sequences);
    for (const loss of batchLosses(model, batch, first, options, tallies)) losses.add(loss);
    const { mean, squares } = losses;
    options.onProgress?.({ sequences: losses.count, loss: { mean, squares }, tallies }, total);
    await new Promise((resolve) => setImmediate(resolve));
  }
  const length = model.config.sequence_length;
  const { routing } = model.config;
  const scored = options.mode === 'topk' && routing !== null && hasPredictor(routing);
  return {
    mode: routing === null ? 'topk' : options.mode,
    sequences: total,
    loss: losses.mean,
    lossStandardError: losses.standardError,
    participation: tallies.map(({ member }) => member / (total * length)),
    participants: tallies.map(({ member, memberSquares }) => ({
      mean: member / total,
      meanSquare: memberSquares / total,
    })),
    predictor: scored ? scorePredictor(tallies, total * length) : null,
    predictorAccuracyByBlock: scored ? tallies.map(({ agreed }) => agreed / (total * length)) : [],
  };
}

/** The mean LM loss of each sequence of a batch; adds what the routed blocks decided to their tallies. */
function batchLosses(
  model: Transformer,
  batch: Batch,
  first: number,
  options: EvaluationOptions,
  tallies: BlockTally[],
): Float32Array {
  const { sequences } = batch;
  const length = model.config.sequence_length;
  return scope(() => {
    const { logits, routed } = model.forward(tensor2d(batch.inputs, [sequences, length], 'int32'), {
      tape: null,
      mode: options.mode,
      noise: routerNoise(model.config, options.seed, 'heldout', first, sequences),
    });
    const losses = crossEntropy(null, logits, tensor2d(batch.targets, [sequences, length], 'int32'));
    routed.forEach((trace, i) => {
      count(tallies[i] as BlockTally, trace);
    });
    return (mean(losses, 1) as Tensor).dataSync() as Float32Array;
  });
}

function count(tally: BlockTally, { mask, predictor }: RoutedTrace): void {
  const [sequences, length] = mask.shape as [number, number];
  const members = mask.dataSync();
  const logits = predictor?.dataSync() ?? null;
  for (let sequence = 0; sequence < sequences; sequence++) {
    let took = 0;
    for (let i = sequence * length; i < (sequence + 1) * length; i++) {
      const selected = members[i] === 1;
      if (selected) took += 1;
      if (logits === null) continue;
      const positive = (logits[i] as number) > 0;
      if (positive === selected) tally.agreed += 1;
      if (positive) tally.positive += 1;
      if (positive && selected) tally.truePositive += 1;
    }
    tally.member += took;
    tally.memberSquares += took * took;
  }
}
