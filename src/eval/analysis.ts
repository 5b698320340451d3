/** Routing analysis: which tokens the routed blocks select, and how that correlates with the tokens' entropy and loss. */
import { tensor2d } from '@tensorflow/tfjs-core';
import type { HeldoutWindows } from '../data/batches.js';
import { type RoutingMode, routedBlocks } from '../model/config.js';
import { drawnWeights } from '../model/routers.js';
import type { Transformer } from '../model/transformer.js';
import { crossEntropy } from '../ops/cross-entropy.js';
import { entropyKernel } from '../ops/entropy.js';
import { scope } from '../ops/scope.js';
import type { Analysis } from '../results/analysis.js';
import { pearson, spearman } from './correlation.js';

export interface AnalysisOptions {
  mode: RoutingMode;
  /** At most this many held-out windows, from the first. */
  sequences: number;
  /** Number of windows whose selections are listed token by token. */
  heatmaps: number;
  seed: number;
  /** Returns the text of each token; null without a tokenizer. */
  texts: ((tokens: Int32Array) => Promise<string[]>) | null;
  onProgress?: (done: number, total: number) => void;
}

/** An analysis without the run's id and the time, which the caller adds. */
export type RoutingAnalysis = Omit<Analysis, 'run_id' | 'analyzed_at'>;

/** Every token of the analysed sequences, one sequence after another. */
export interface TokenTable {
  tokens: Int32Array;
  /** Number of routed blocks that selected it. */
  blocksEngaged: Uint8Array;
  /** Entropy of the prediction at the token, in nats. */
  entropy: Float32Array;
  /** Loss of the token that follows, in nats. */
  loss: Float32Array;
}

/** Bins of the histogram of router weights. */
const BINS = 60;
/** Parts of a sequence in which participation is counted. */
const POSITION_PARTS = 16;
/** Share of the weights beyond each edge of the histogram; the outermost bins count them. */
const BEYOND = 0.001;

/**
 * Analyses a routed model on held-out windows, one sequence at a time. Yields to the event loop between them. Returns the
 * summary and the values of every token from which it is computed.
 */
export async function analyzeRouting(
  model: Transformer,
  windows: HeldoutWindows,
  options: AnalysisOptions,
): Promise<{ analysis: RoutingAnalysis; table: TokenTable }> {
  const { config } = model;
  const length = config.sequence_length;
  const total = Math.min(options.sequences, windows.count);
  const blocks = routedBlocks(config);
  const size = total * length;
  const table: TokenTable = {
    tokens: new Int32Array(size),
    blocksEngaged: new Uint8Array(size),
    entropy: new Float32Array(size),
    loss: new Float32Array(size),
  };
  const weights = blocks.map(() => new Float32Array(size));
  const masks = blocks.map(() => new Uint8Array(size));
  const heatmaps: Analysis['heatmaps'] = [];
  for (let sequence = 0; sequence < total; sequence++) {
    const at = sequence * length;
    const { inputs, targets } = windows.read(sequence, 1);
    table.tokens.set(inputs, at);
    scope(() => {
      const drawn = drawnWeights(config, options.seed, 'heldout', sequence, 1);
      const ids = tensor2d(inputs, [1, length], 'int32');
      const { logits, routed } = model.forward(ids, { tape: null, mode: options.mode, drawn });
      table.loss.set(crossEntropy(null, logits, tensor2d(targets, [1, length], 'int32')).dataSync(), at);
      table.entropy.set(entropyKernel({ logits }, {})[0].dataSync(), at);
      routed.forEach(({ r, mask }, block) => {
        weights[block]?.set(r.dataSync(), at);
        masks[block]?.set(mask.dataSync(), at);
      });
    });
    for (const mask of masks) {
      for (let i = at; i < at + length; i++)
        table.blocksEngaged[i] = (table.blocksEngaged[i] as number) + (mask[i] as number);
    }
    if (sequence < options.heatmaps) {
      const engaged = masks.map((mask) => mask.subarray(at, at + length).join(''));
      heatmaps.push({ sequence, tokens: (await options.texts?.(inputs)) ?? null, engaged });
    }
    options.onProgress?.(sequence + 1, total);
    await new Promise((resolve) => setImmediate(resolve));
  }
  const analysis: RoutingAnalysis = {
    routing: options.mode,
    sequences: total,
    blocks,
    heatmaps,
    router_weights: histogram(weights, masks),
    share_by_blocks_engaged: sharesByCount(table.blocksEngaged, blocks.length),
    participation_by_position: masks.map((mask) => participationByPosition(mask, length)),
    correlations: correlations(table, length),
  };
  return { analysis, table };
}

/** Counts of router weights in bins of equal width, the same for all blocks. */
function histogram(weights: Float32Array[], masks: Uint8Array[]): Analysis['router_weights'] {
  const all = new Float32Array(weights.reduce((sum, block) => sum + block.length, 0));
  weights.forEach((block, b) => {
    all.set(block, b * block.length);
  });
  all.sort();
  const low = all[Math.floor(BEYOND * all.length)] ?? 0;
  const high = all[Math.ceil((1 - BEYOND) * all.length) - 1] ?? 1;
  const width = (high - low || 1) / BINS;
  const edges = Array.from({ length: BINS + 1 }, (_, i) => low + i * width);
  const count = (counts: (block: number, i: number) => number) =>
    weights.map((block, b) => {
      const bins = new Array<number>(BINS).fill(0);
      block.forEach((weight, i) => {
        const bin = Math.max(0, Math.min(BINS - 1, Math.floor((weight - low) / width)));
        bins[bin] = (bins[bin] as number) + counts(b, i);
      });
      return bins;
    });
  return {
    edges,
    counts: count(() => 1),
    engaged_counts: count((block, i) => masks[block]?.[i] ?? 0),
  };
}

/** The shares of tokens that exactly 0, 1, ... blocks selected. */
function sharesByCount(blocksEngaged: Uint8Array, blocks: number): number[] {
  const counts = new Array<number>(blocks + 1).fill(0);
  for (const count of blocksEngaged) counts[count] = (counts[count] as number) + 1;
  return counts.map((count) => count / blocksEngaged.length);
}

/** The share of selected tokens in equal parts of the sequences, in the order of positions. mask [sequences · length] */
export function participationByPosition(mask: Uint8Array, length: number): number[] {
  const parts = Math.min(POSITION_PARTS, length);
  const [selected, all] = [new Array<number>(parts).fill(0), new Array<number>(parts).fill(0)];
  mask.forEach((isSelected, i) => {
    const part = Math.floor(((i % length) * parts) / length);
    selected[part] = (selected[part] as number) + isSelected;
    all[part] = (all[part] as number) + 1;
  });
  return selected.map((count, part) => count / (all[part] as number));
}

function correlations(
  { blocksEngaged, entropy, loss }: TokenTable,
  length: number,
): Analysis['correlations'] {
  const n = blocksEngaged.length;
  return (['entropy', 'loss'] as const).flatMap((other) => {
    const values = { entropy, loss }[other];
    return [
      { with: other, coefficient: 'pearson' as const, ...pearson(blocksEngaged, values, length), n },
      { with: other, coefficient: 'spearman' as const, ...spearman(blocksEngaged, values, length), n },
    ];
  });
}
