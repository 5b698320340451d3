/** Held-out evaluation: the loss of every sequence in one routing mode, and what the routed blocks decided. */
import { mean, type Tensor, tensor2d } from '@tensorflow/tfjs-core';
import type { Batch, HeldoutWindows } from '../data/batches.js';
import type { RoutedTrace } from '../model/block.js';
import { hasPredictor, type ModelConfig, type RoutingMode } from '../model/config.js';
import { routerNoise } from '../model/noise.js';
import type { Transformer } from '../model/transformer.js';
import { crossEntropy } from '../ops/cross-entropy.js';
import { scope } from '../ops/scope.js';
import { mean as meanOf, standardError } from '../statistics.js';

export interface EvaluationOptions {
  mode: RoutingMode;
  /** At most this many windows, from the first. */
  sequences: number;
  /** Sequences that pass through the model at once. */
  batchSequences: number;
  /** Seed of the random router's draws, which depend on the window and nothing else. */
  seed: number;
  onProgress?: (done: number, total: number) => void;
}

/** How the predictor's answers compare with membership of the top-k set, over tokens and routed blocks. */
export interface PredictorScore {
  accuracy: number;
  /** Accuracy of always answering 'skip'. */
  alwaysSkip: number;
  /** Null where the predictor never says 'take'. */
  precision: number | null;
  recall: number | null;
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
  /** In `topk` mode alone: there the activations are those of training. */
  predictor: PredictorScore | null;
  /** Accuracy of each routed block's predictor, in order; empty where `predictor` is null. */
  predictorAccuracyByBlock: number[];
}

interface Tally {
  member: number;
  agreed: number;
  positive: number;
  truePositive: number;
}

/** Evaluates on windows 0.. of the held-out data. Yields to the event loop between batches. */
export async function evaluate(
  model: Transformer,
  windows: HeldoutWindows,
  options: EvaluationOptions,
): Promise<Evaluation> {
  const total = Math.min(options.sequences, windows.count);
  const losses: number[] = [];
  const tallies = routedBlocks(model.config).map(
    (): Tally => ({ member: 0, agreed: 0, positive: 0, truePositive: 0 }),
  );
  for (let first = 0; first < total; first += options.batchSequences) {
    const sequences = Math.min(options.batchSequences, total - first);
    const batch = windows.read(first, sequences);
    losses.push(...batchLosses(model, batch, first, options, tallies));
    options.onProgress?.(first + sequences, total);
    await new Promise((resolve) => setImmediate(resolve));
  }
  const tokens = total * model.config.sequence_length;
  const scored =
    options.mode === 'topk' && model.config.routing !== null && hasPredictor(model.config.routing);
  return {
    mode: model.config.routing === null ? 'topk' : options.mode,
    sequences: total,
    loss: meanOf(losses),
    lossStandardError: standardError(losses),
    participation: tallies.map(({ member }) => member / tokens),
    predictor: scored ? scorePredictor(tallies, tokens) : null,
    predictorAccuracyByBlock: scored ? tallies.map(({ agreed }) => agreed / tokens) : [],
  };
}

/** The mean LM loss of each sequence of a batch; adds what the routed blocks decided to their tallies. */
function batchLosses(
  model: Transformer,
  batch: Batch,
  first: number,
  options: EvaluationOptions,
  tallies: Tally[],
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
      count(tallies[i] as Tally, trace);
    });
    return (mean(losses, 1) as Tensor).dataSync() as Float32Array;
  });
}

function count(tally: Tally, { member, predictor }: RoutedTrace): void {
  const members = member.dataSync();
  const logits = predictor?.dataSync() ?? null;
  for (let i = 0; i < members.length; i++) {
    const selected = members[i] === 1;
    if (selected) tally.member += 1;
    if (logits === null) continue;
    const positive = (logits[i] as number) > 0;
    if (positive === selected) tally.agreed += 1;
    if (positive) tally.positive += 1;
    if (positive && selected) tally.truePositive += 1;
  }
}

function scorePredictor(tallies: Tally[], tokens: number): PredictorScore {
  const sum = (pick: (tally: Tally) => number) => tallies.reduce((total, tally) => total + pick(tally), 0);
  const decisions = tokens * tallies.length;
  const [member, positive, truePositive] = [
    sum((tally) => tally.member),
    sum((tally) => tally.positive),
    sum((tally) => tally.truePositive),
  ];
  return {
    accuracy: sum((tally) => tally.agreed) / decisions,
    alwaysSkip: (decisions - member) / decisions,
    precision: positive === 0 ? null : truePositive / positive,
    recall: member === 0 ? null : truePositive / member,
  };
}

function routedBlocks(model: ModelConfig): number[] {
  const { routing, n_layers } = model;
  return routing === null
    ? []
    : Array.from({ length: Math.floor(n_layers / routing.frequency) }, (_, i) => i);
}
