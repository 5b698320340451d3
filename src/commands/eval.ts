/** `mod eval`: held-out loss of finished runs, or of one checkpoint, in one routing mode or several. */

import { chooseBackend } from '../backends/choose.js';
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';
import { latestCheckpoint } from '../checkpoint/folder.js';
import { openTokenFile } from '../data/tokens.js';
import { InputError } from '../errors.js';
import type { ModeResult } from '../eval/modes.js';
import {
  checkpointAt,
  evaluateCheckpoint,
  evaluateRun,
  keptCheckpoint,
  type TargetOptions,
} from '../eval/targets.js';
import type { TokenWidth } from '../files/guess.js';
import { jsonText } from '../files/numbers.js';
import { table } from '../format.js';
import type { RoutingMode } from '../model/config.js';
import type { PlannedRun } from '../plan/run.js';
import { readResult } from '../results/run-folder.js';
import { findSweep, readPlan, runFolder } from '../results/sweep-folder.js';
import { writeTables } from '../results/tables.js';

export interface EvalCommandOptions {
  results: string;
  checkpoint?: string;
  tokens?: string;
  tokenBytes: TokenWidth;
  /** Reads a token file that the statistics of its bytes reject. */
  unchecked: boolean;
  routing?: RoutingMode;
  autoregressive: boolean;
  sequences?: number;
  json: boolean;
  backend: RequestedBackend;
  precision: RequestedPrecision;
}

/** Milliseconds between progress lines. */
const PROGRESS_INTERVAL = 10_000;

/**
 * Evaluates and prints the results; `note` receives progress. Results of runs are also written to their folders and to
 * eval.csv, those of a checkpoint are only printed.
 *
 * @throws InputError for a missing or invalid target, checkpoint or token file
 */
export async function evalCommand(
  target: string | undefined,
  options: EvalCommandOptions,
  out: (text: string) => void,
  note: (text: string) => void,
): Promise<void> {
  const { checkpoint, tokens, json } = options;
  if (checkpoint === undefined && tokens !== undefined) {
    throw new InputError(
      '--tokens requires --checkpoint: runs are evaluated on the held-out tokens of their sweep',
    );
  }
  const results =
    checkpoint === undefined
      ? await evaluateTarget(target, options, note)
      : await evaluateCheckpoint(
          checkpointAt(checkpoint, options.results),
          ({ vocab_size }) =>
            openTokenFile(tokensOption(tokens, target), options.tokenBytes, vocab_size, options.unchecked),
          await targetOptions(options, note),
        );
  if (!json) return out(report(results));
  const printed = results.map(({ row, participation }) => ({ ...row, participation }));
  const single = checkpoint !== undefined && options.routing !== undefined;
  out(jsonText(single ? printed[0] : printed, 1));
}

function tokensOption(tokens: string | undefined, target: string | undefined): string {
  if (target !== undefined) throw new InputError(`${target}: give either a TARGET or --checkpoint`);
  if (tokens === undefined) throw new InputError('--checkpoint requires --tokens FILE');
  return tokens;
}

async function evaluateTarget(
  target: string | undefined,
  options: EvalCommandOptions,
  note: (text: string) => void,
): Promise<ModeResult[]> {
  const { sweepFolder, runId } = findSweep(target, options.results);
  const { runs, base_dir } = readPlan(sweepFolder);
  const folderOf = (run: PlannedRun) => runFolder(sweepFolder, run.run_id);
  const done = runs.filter(
    (run) => (runId === null || run.run_id === runId) && readResult(folderOf(run))?.status === 'done',
  );
  if (done.length === 0)
    throw new InputError(`${target ?? sweepFolder}: no run has finished; train it first with mod sweep`);
  const kept = done.filter((run) => latestCheckpoint(folderOf(run)) !== null);
  const [first] = done as [PlannedRun];
  if (kept.length === 0) keptCheckpoint(first, folderOf(first)); // throws the reason
  const shared = await targetOptions(options, note);
  const results: ModeResult[] = [];
  for (const run of kept) {
    results.push(...(await evaluateRun(run, folderOf(run), base_dir, shared)));
    writeTables(sweepFolder, runs);
  }
  for (const run of done) {
    if (!kept.includes(run)) note(`${run.run_id}: not evaluated, its weights were removed`);
  }
  return results;
}

async function targetOptions(
  options: EvalCommandOptions,
  note: (text: string) => void,
): Promise<TargetOptions> {
  const { routing, autoregressive, sequences } = options;
  const backend = await chooseBackend(options.backend, options.precision);
  let last = Date.now();
  return {
    routing,
    autoregressive,
    sequences,
    backend,
    now: Date.now,
    onProgress: (subject, mode, done, total) => {
      if (Date.now() - last < PROGRESS_INTERVAL) return;
      last = Date.now();
      note(`${subject} ${mode}: ${done} of ${total} sequences`);
    },
  };
}

function report(results: ModeResult[]): string {
  const head = ['run', 'routing', 'sequences', 'loss', 'se', '- topk', 'FLOPs/pass', 'participation'];
  const rows = results.map(({ row, participation }) => [
    row.run_id,
    row.routing,
    String(row.sequences),
    row.loss.toFixed(4),
    row.loss_se?.toFixed(4) ?? '-',
    row.loss_minus_topk?.toFixed(4) ?? '-',
    row.flops_per_pass.toExponential(3),
    participation.map((share) => share.toFixed(3)).join(' ') || '-',
  ]);
  return table(head, rows);
}
