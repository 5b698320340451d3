/** `mod analyze`: which held-out tokens each routed block of a run selects, and how hard they are to predict. */

import { mkdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { stringify } from 'csv-stringify/sync';
import { chooseBackend } from '../backends/choose.js';
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';
import { loadCheckedModel, openCheckpointTokenizer } from '../checkpoint/model.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { InputError } from '../errors.js';
import { analyzeRouting, type TokenTable } from '../eval/analysis.js';
import { keptCheckpoint, openRunHeldout } from '../eval/targets.js';
import { writeFileAtomic } from '../files/atomic.js';
import { jsonText } from '../files/numbers.js';
import { table } from '../format.js';
import type { RoutingMode } from '../model/config.js';
import { modeProblem, weightsProblem } from '../model/routing-modes.js';
import { type Analysis, analysisFile, writeAnalysis } from '../results/analysis.js';
import { findSweep, readPlan, runFolder } from '../results/sweep-folder.js';

export interface AnalyzeCommandOptions {
  results: string;
  sequences: number;
  heatmaps: number;
  routing: RoutingMode;
  json: boolean;
  backend: RequestedBackend;
  precision: RequestedPrecision;
}

/**
 * Analyses the last checkpoint of a run; writes analysis.json, tokens.csv and router-weights.csv to the run's `analysis`.
 *
 * @throws InputError if the target is not a routed run with weights, or does not support the routing mode
 */
export async function analyzeCommand(
  target: string,
  options: AnalyzeCommandOptions,
  out: (text: string) => void,
): Promise<void> {
  const { sweepFolder, runId } = findSweep(target, options.results);
  const { runs, base_dir } = readPlan(sweepFolder);
  const run = runs.find(({ run_id }) => run_id === runId);
  if (run === undefined)
    throw new InputError(`${target} is a sweep: name one of its runs, as in ${target}/RUN`);
  const { spec, run_id } = run;
  if (spec.model.routing === null) {
    const why =
      spec.model.experts === null
        ? 'a dense model has no routed blocks'
        : 'it has no routed blocks; its expert load is in steps.csv';
    throw new InputError(`${run_id}: ${why}`);
  }
  const problem = modeProblem(spec.model, options.routing);
  if (problem !== null) throw new InputError(`${run_id}: --routing ${options.routing}: ${problem}`);
  const folder = runFolder(sweepFolder, run_id);
  const checkpoint = keptCheckpoint(run, folder);
  await chooseBackend(options.backend, options.precision);
  const tokenizer = await openCheckpointTokenizer(checkpoint);
  const { windows, close } = await openRunHeldout(run, folder, base_dir);
  const model = loadCheckedModel(checkpoint);
  const lacking = weightsProblem(model, options.routing);
  if (lacking !== null) throw new InputError(`${checkpoint}: --routing ${options.routing}: ${lacking}`);
  const { analysis, table } = await analyzeRouting(model, windows, {
    mode: options.routing,
    sequences: options.sequences,
    heatmaps: options.heatmaps,
    seed: spec.seed,
    texts: tokenizer === null ? null : (tokens) => tokenTexts(tokenizer, tokens),
  });
  model.dispose();
  close();
  const complete: Analysis = { run_id, ...analysis, analyzed_at: new Date().toISOString() };
  writeAnalysis(folder, complete);
  writeTables(dirname(analysisFile(folder)), complete, table, spec.model.sequence_length);
  out(options.json ? jsonText(complete, 1) : report(complete, analysisFile(folder), basename(sweepFolder)));
}

/** The text of each token; U+FFFD for part of a character. */
function tokenTexts(tokenizer: Tokenizer, tokens: Int32Array): Promise<string[]> {
  return Promise.all(Array.from(tokens, (token) => tokenizer.decode([token])));
}

function writeTables(folder: string, analysis: Analysis, tokens: TokenTable, length: number): void {
  mkdirSync(folder, { recursive: true });
  const head = ['sequence', 'position', 'token', 'blocks_engaged', 'entropy', 'loss'];
  const rows = Array.from(tokens.tokens, (token, i) => [
    Math.floor(i / length),
    i % length,
    token,
    tokens.blocksEngaged[i],
    tokens.entropy[i],
    tokens.loss[i],
  ]);
  writeFileAtomic(join(folder, 'tokens.csv'), stringify([head, ...rows]));
  const { edges, counts, engaged_counts } = analysis.router_weights;
  const bins = analysis.blocks.flatMap((block, b) =>
    (counts[b] as number[]).map((count, i) => [block, edges[i], edges[i + 1], count, engaged_counts[b]?.[i]]),
  );
  const binHead = ['block', 'from', 'to', 'tokens', 'tokens_engaged'];
  writeFileAtomic(join(folder, 'router-weights.csv'), stringify([binHead, ...bins]));
}

function report(analysis: Analysis, path: string, sweep: string): string {
  const { run_id, routing, sequences, blocks, share_by_blocks_engaged, correlations } = analysis;
  const shares = share_by_blocks_engaged.map((share, count) => [
    String(count),
    `${(100 * share).toFixed(1)}%`,
  ]);
  const participation = analysis.participation_by_position ?? [];
  const parts = participation[0]?.length ?? 0;
  const byPosition = table(
    ['block', ...Array.from({ length: parts }, (_, part) => String(part + 1))],
    participation.map((block, i) => [String(blocks[i]), ...block.map((share) => (100 * share).toFixed(0))]),
  );
  const rows = correlations.map(({ with: other, coefficient, r, interval }) => [
    other,
    coefficient,
    r?.toFixed(3) ?? '-',
    interval === null ? '-' : `${interval[0].toFixed(3)} to ${interval[1].toFixed(3)}`,
  ]);
  return [
    `${run_id}: ${sequences} sequences, routing mode ${routing}, routed blocks ${blocks.join(', ')}`,
    table(['blocks engaged', 'tokens'], shares),
    `Selected tokens (%) in ${parts} equal parts of the sequence:\n${byPosition}`,
    `Correlation of blocks engaged with:\n${table(['', 'coefficient', 'r', '95%'], rows)}`,
    `${path}\nNext: mod report ${sweep} shows it`,
  ].join('\n\n');
}
