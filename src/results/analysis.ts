/** analysis/analysis.json in a run's folder: what `mod analyze` found out about its routing, and the report draws. */
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readJson, writeJson } from '../files/json.js';
import type { RoutingMode } from '../model/config.js';

/** Which tokens of one held-out sequence went through which routed block (Raposo et al. 2024, figure 5, left). */
export interface SequenceRouting {
  /** Index among the held-out sequences, from 0. */
  sequence: number;
  /** T texts, one a token, as they stand in the sequence; null where the tokenizer cannot say. */
  tokens: string[] | null;
  /** One string a routed block, in the order of `blocks`, of T characters: 1 where the token took part, else 0. */
  engaged: string[];
}

/** One coefficient over all tokens of all sequences, between the number of blocks a token engaged and something else. */
export interface EngagementCorrelation {
  /** `entropy`: of the model's prediction at the token, nats. `loss`: of the token that follows, nats. */
  with: 'entropy' | 'loss';
  coefficient: 'pearson' | 'spearman';
  /** Null where one of the two does not vary. */
  r: number | null;
  /** 95% confidence interval of r, its resampling unit the sequence; null where r is, or with fewer than two sequences. */
  interval: [low: number, high: number] | null;
  /** Tokens. */
  n: number;
}

export interface Analysis {
  run_id: string;
  /** How the analysed pass selected. */
  routing: RoutingMode;
  /** Held-out sequences analysed; `heatmaps` shows some of them. */
  sequences: number;
  /** The routed blocks, from 0, ascending. Every list below that is by routed block has this order. */
  blocks: number[];
  heatmaps: SequenceRouting[];
  router_weights: {
    /** Ascending, one more than there are bins, the same for all blocks; bin i is [edges[i], edges[i + 1]). */
    edges: number[];
    /** Tokens in each bin, [routed block][bin]. The outer bins also hold what lies beyond the edges. */
    counts: number[][];
    /** Of these the tokens that took part, [routed block][bin]. */
    engaged_counts: number[][];
  };
  /** Share of tokens that engaged i routed blocks, i = 0 to blocks.length; sums to 1. */
  share_by_blocks_engaged: number[];
  correlations: EngagementCorrelation[];
  /** ISO 8601. */
  analyzed_at: string;
}

/** The file in a run's folder. */
export function analysisFile(runFolder: string): string {
  return join(runFolder, 'analysis', 'analysis.json');
}

export function writeAnalysis(runFolder: string, analysis: Analysis): void {
  const path = analysisFile(runFolder);
  mkdirSync(dirname(path), { recursive: true });
  writeJson(path, analysis);
}

/** Null for a run that has not been analysed. */
export function readAnalysis(runFolder: string): Analysis | null {
  return readJson(analysisFile(runFolder)) as Analysis | null;
}
