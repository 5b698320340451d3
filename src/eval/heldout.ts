/** Held-out evaluation: the loss of every sequence in one routing mode, and the decisions of the routed blocks. */
import { mean, type Tensor, tensor2d } from '@tensorflow/tfjs-core';
import type { Batch, HeldoutWindows } from '../data/batches.js';
import { DeviceMemoryError } from '../errors.js';
import { type RoutingMode, routedBlocks } from '../model/config.js';
import type { Participation } from '../model/flops.js';
import { drawnWeights, hasPredictor } from '../model/routers.js';
import type { Transformer } from '../model/transformer.js';
import { crossEntropy } from '../ops/cross-entropy.js';
import { scope } from '../ops/scope.js';
import { varyingShapes } from '../ops/varying-shapes.js';
import type { LossClusters } from '../results/heldout-losses.js';
import { clusteredMean, RunningMean } from '../statistics.js';
import { addDocuments, emptySums, type LossSums, lossClusters } from './loss-sums.js';
import { type BlockTally, emptyTally, type PredictorScore, scorePredictor } from './tally.js';

export interface EvaluationOptions {
  mode: RoutingMode;
  /** Maximum number of windows, from the first. */
  sequences: number;
  /** Sequences that pass through the model at once: halved when the device runs out of memory. */
  batchSequences: number;
  /** Called the first time that the device runs out of memory, before anything is halved: frees what can be made again. */
  freeMemory?: () => void;
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

/**
 * Evaluates a model on the first windows of the held-out data. Yields to the event loop between batches.
 *
 * @throws DeviceMemoryError if the device cannot hold a single sequence
 */
export async function evaluate(
  model: Transformer,
  windows: HeldoutWindows,
  options: EvaluationOptions,
): Promise<Evaluation> {
  const total = Math.min(options.sequences, windows.count);
  const tallies = options.from?.tallies ?? routedBlocks(model.config).map(emptyTally);
  const sums = options.from?.sums ?? emptySums(options.endOfText ?? null);
  const running = new RunningMean(options.from && { count: options.from.sequences, ...options.from.loss });
  let { batchSequences, freeMemory } = options;
  while (running.count < total) {
    const first = running.count;
    const sequences = Math.min(batchSequences, total - first);
    const batch = windows.read(first, sequences);
    let results: BatchResults;
    try {
      const run = () => evaluateBatch(model, batch, first, options);
      results = sequences < options.batchSequences ? varyingShapes(run) : run();
    } catch (error) {
      if (!(error instanceof DeviceMemoryError)) throw error;
      if (freeMemory !== undefined) {
        freeMemory();
        freeMemory = undefined;
      } else if (sequences === 1) {
        throw error;
      } else {
        batchSequences = Math.ceil(sequences / 2);
      }
      continue;
    }
    results.decisions.forEach((decisions, i) => {
      addDecisions(tallies[i] as BlockTally, decisions, model.config.sequence_length);
    });
    for (const loss of results.means) {
      running.add(loss);
      sums.sequences.push(loss * model.config.sequence_length);
    }
    if (results.losses !== null) addDocuments(sums, batch, results.losses, options.endOfText as number);
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

/** What a routed block decided for the tokens of a batch. */
interface Decisions {
  /** 1 for a selected token, else 0. */
  selections: Float32Array;
  /** The predictor's logits; null without. */
  logits: Float32Array | null;
}

/** The results of a batch, all read from the device: it cannot run out of memory between two of them. */
interface BatchResults {
  /** The LM loss of each sequence, in nats per token. */
  means: Float32Array;
  /** The losses of all tokens; null if they are not summed by document. */
  losses: Float32Array | null;
  /** One entry per routed block, in order. */
  decisions: Decisions[];
}

function evaluateBatch(
  model: Transformer,
  batch: Batch,
  first: number,
  options: EvaluationOptions,
): BatchResults {
  const { sequences } = batch;
  const length = model.config.sequence_length;
  const values = (tensor: Tensor) => tensor.dataSync() as Float32Array;
  return scope(() => {
    const { logits, routed } = model.forward(tensor2d(batch.inputs, [sequences, length], 'int32'), {
      tape: null,
      mode: options.mode,
      drawn: drawnWeights(model.config, options.seed, 'heldout', first, sequences),
    });
    const losses = crossEntropy(null, logits, tensor2d(batch.targets, [sequences, length], 'int32'));
    return {
      means: values(mean(losses, 1)),
      losses: (options.endOfText ?? null) === null ? null : values(losses),
      decisions: routed.map(({ mask, predictor }) => ({
        selections: values(mask),
        logits: predictor === null ? null : values(predictor),
      })),
    };
  });
}

function addDecisions(tally: BlockTally, { selections, logits }: Decisions, length: number): void {
  const sequences = selections.length / length;
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
