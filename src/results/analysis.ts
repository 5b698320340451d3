/** analysis/analysis.json in a run's folder: the routing analysis that `mod analyze` writes and the report draws. */
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readJson, writeJson } from '../files/json.js';
import type { RoutingMode } from '../model/config.js';

/** Which tokens of one held-out sequence each routed block processed (Raposo et al. 2024, figure 5, left). */
export interface SequenceRouting {
  /** Index among the held-out sequences, from 0. */
  sequence: number;
  /** T texts, one per token, in the order of the sequence; null if the tokenizer cannot decode single tokens. */
  tokens: string[] | null;
  /** One string per routed block, in the order of `blocks`, of T characters: 1 if the token is selected, else 0. */
  engaged: string[];
}

/** The correlation between the number of blocks that select a token and another value, over all tokens. */
export interface EngagementCorrelation {
  /** `entropy`: that of the model's prediction at the token, in nats. `loss`: that of the next token, in nats. */
  with: 'entropy' | 'loss';
  coefficient: 'pearson' | 'spearman';
  /** Null if one of the two is constant. */
  r: number | null;
  /** 95% confidence interval of r, resampled by sequences; null if r is null, or with fewer than two sequences. */
  interval: [low: number, high: number] | null;
  /** Number of tokens. */
  n: number;
}

export interface Analysis {
  run_id: string;
  /** Routing mode of the analysed pass. */
  routing: RoutingMode;
  /** Number of held-out sequences analysed; `heatmaps` has some of them. */
  sequences: number;
  /** The routed blocks, from 0, ascending; the order of every list by routed block below. */
  blocks: number[];
  heatmaps: SequenceRouting[];
  router_weights: {
    /** Ascending, the same for all blocks; bin i is [edges[i], edges[i + 1]). */
    edges: number[];
    /** Tokens in each bin, [routed block][bin]. The outer bins include the tokens beyond the edges. */
    counts: number[][];
    /** Selected tokens in each bin, [routed block][bin]. */
    engaged_counts: number[][];
  };
  /** Share of tokens that i routed blocks select, i = 0 to blocks.length; sums to 1. */
  share_by_blocks_engaged: number[];
  /**
   * Share of tokens that each routed block selects in equal parts of the sequence, [routed block][part]: a mode whose
   * threshold drifts with the position shows it here. Absent in files of older versions.
   */
  participation_by_position?: number[][];
  correlations: EngagementCorrelation[];
  /** ISO 8601. */
  analyzed_at: string;
}

/** Path of the file in a run's folder. */
export function analysisFile(runFolder: string): string {
  return join(runFolder, 'analysis', 'analysis.json');
}

export function writeAnalysis(runFolder: string, analysis: Analysis): void {
  const path = analysisFile(runFolder);
  mkdirSync(dirname(path), { recursive: true });
  writeJson(path, analysis);
}

/** Null if the run has not been analysed. */
export function readAnalysis(runFolder: string): Analysis | null {
  return readJson(analysisFile(runFolder)) as Analysis | null;
}
