/** Evaluates a checkpoint on any tokens, or a finished run on the held-out tokens of its sweep. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { latestCheckpoint } from '../checkpoint/folder.js';
import { loadCheckedModel, openCheckpointTokenizer } from '../checkpoint/model.js';
import { HeldoutWindows } from '../data/batches.js';
import { dataFiles, endOfTextOf, heldoutEndOfText, openHeldoutData } from '../data/run-data.js';
import type { TokenSource } from '../data/token-source.js';
import { InputError } from '../errors.js';
import type { ModelConfig, RoutingMode } from '../model/config.js';
import { type MicroBatchBackend, microBatchSequences } from '../model/memory.js';
import { modeProblem, weightsModes, weightsProblem } from '../model/routing-modes.js';
import type { Transformer } from '../model/transformer.js';
import type { PlannedRun } from '../plan/run.js';
import type { EvalRow } from '../results/columns.js';
import {
  aligned,
  type HeldoutLosses,
  readHeldoutLosses,
  writeHeldoutLosses,
} from '../results/heldout-losses.js';
import { assertSameHeldout, readEvaluations, runFiles, writeEvaluations } from '../results/run-folder.js';
import { findSweep, readPlan, runFolder } from '../results/sweep-folder.js';
import { currentRows } from '../results/tables.js';
import { evaluateModes, lossesByMode, type ModeResult, type ModesOptions } from './modes.js';
import { EvaluationProgress } from './progress.js';

export interface TargetOptions extends Pick<ModesOptions, 'now' | 'onProgress'> {
  backend: ModesOptions['backend'] &
    Pick<MicroBatchBackend, 'precision'> & { memory: () => { free: number } | null };
  /** Evaluate only in this mode (for a run, in `topk` and this mode); undefined: see `autoregressive`. */
  routing: RoutingMode | undefined;
  /** True: all modes for which a model was trained (`weightsModes`); false: `topk`. */
  autoregressive: boolean;
  /** Maximum number of sequences; undefined: the sweep file's number for a run, all for a checkpoint. */
  sequences: number | undefined;
}

/** Sequences that pass through the model at once, if they fit in memory. */
const BATCH_SEQUENCES = 128;

/**
 * Evaluates a checkpoint. It has no seed: routers that draw their weights draw with seed 0.
 *
 * @throws InputError for a damaged checkpoint, a mode that its model does not have, fewer tokens than one sequence
 */
export async function evaluateCheckpoint(
  folder: string,
  open: (model: ModelConfig) => TokenSource,
  options: TargetOptions,
): Promise<ModeResult[]> {
  const model = loadCheckedModel(folder);
  const source = open(model.config);
  try {
    const { routing } = options;
    const problem = routing === undefined ? null : weightsProblem(model, routing);
    if (problem !== null) throw new InputError(`${folder}: --routing ${routing}: ${problem}`);
    const windows = new HeldoutWindows(source, model.config.sequence_length);
    const modes = routing === undefined ? defaultModes(model, options) : [routing];
    const endOfText = await endOfTextOf(() => openCheckpointTokenizer(folder));
    return await evaluateModel(model, windows, modes, { ...options, runId: folder, seed: 0, endOfText });
  } finally {
    source.close();
    model.dispose();
  }
}

/**
 * Evaluates the last checkpoint of a run, in `topk` among other modes, and writes the rows to the run's folder. Its rows of
 * other modes are kept if they have the same number of sequences.
 *
 * @throws InputError if the run has no checkpoint, its checkpoint lacks the mode, or data or checkpoint are damaged
 */
export async function evaluateRun(
  run: PlannedRun,
  folder: string,
  baseDir: string,
  options: TargetOptions,
): Promise<ModeResult[]> {
  const { run_id, spec } = run;
  const checkpoint = keptCheckpoint(run, folder);
  const { windows, close } = await openRunHeldout(run, folder, baseDir);
  const model = loadCheckedModel(checkpoint);
  try {
    const { routing } = options;
    const isDefault =
      routing === undefined || spec.model.routing === null || modeProblem(spec.model, routing) !== null;
    const problem = isDefault ? null : weightsProblem(model, routing);
    if (problem !== null) throw new InputError(`${folder}: --routing ${routing}: ${problem}`);
    const modes = isDefault ? defaultModes(model, options) : new Set<RoutingMode>(['topk', routing]);
    const sequences = options.sequences ?? spec.evaluation.sequences;
    const subject = { spec, checkpoint, sequences, windows: windows.count, backend: options.backend.name };
    const progress = new EvaluationProgress(runFiles(folder).evaluationProgress, subject);
    const results = await evaluateModel(model, windows, [...modes], {
      ...options,
      sequences,
      runId: run_id,
      seed: spec.seed,
      endOfText: await heldoutEndOfText(spec.data, baseDir),
      progress,
    });
    const rows = results.map(({ row }) => row);
    const kept = readEvaluations(folder).filter(
      (old) => old.sequences === rows[0]?.sequences && !rows.some((row) => row.routing === old.routing),
    );
    writeEvaluations(folder, [...rows, ...kept]);
    writeHeldoutLosses(folder, withKeptModes(lossesByMode(results), readHeldoutLosses(folder), kept));
    progress.remove();
    return results;
  } finally {
    model.dispose();
    close();
  }
}

/** Adds the losses of the modes whose rows are kept, if the earlier file is of the same tokens. */
function withKeptModes(
  losses: HeldoutLosses,
  before: HeldoutLosses | null,
  kept: readonly EvalRow[],
): HeldoutLosses {
  const both = before === null || kept.length === 0 ? null : aligned(losses, before);
  if (both === null) return losses;
  const [now, earlier] = both;
  const sums = kept.flatMap(({ routing }) => {
    const values = earlier.sums[routing];
    return values === undefined ? [] : [[routing, values] as const];
  });
  return { ...now, sums: { ...now.sums, ...Object.fromEntries(sums) } };
}

/**
 * The held-out data of a run.
 *
 * @throws InputError if the files have changed since it was trained, or are damaged
 */
export function openRunHeldout(
  { spec }: PlannedRun,
  folder: string,
  baseDir: string,
): ReturnType<typeof openHeldoutData> {
  assertSameHeldout(folder, dataFiles(spec.data, baseDir, ['heldout']));
  return openHeldoutData(spec, baseDir);
}

/**
 * The checkpoint at a path, relative to the working directory or the results: the folder of a checkpoint, or that of a run,
 * for its last checkpoint.
 *
 * @throws InputError if there is none
 */
export function checkpointAt(path: string, resultsDir: string): string {
  for (const folder of [path, join(resultsDir, path)]) {
    if (existsSync(join(folder, 'config.json'))) return folder;
    const latest = latestCheckpoint(folder);
    if (latest !== null) return latest;
  }
  throw new InputError(`${path}: neither a checkpoint nor a run with a checkpoint, here or in ${resultsDir}`);
}

/**
 * The checkpoint of the run with the lowest held-out loss, of those whose weights are kept.
 *
 * @param target a sweep, by folder or name
 * @throws InputError if there is none
 */
export function bestCheckpoint(target: string, resultsDir: string): { runId: string; folder: string } {
  const { sweepFolder, runId } = findSweep(target, resultsDir);
  if (runId !== null) throw new InputError(`${target}: is a run: --best is for a sweep`);
  const trained = currentRows(sweepFolder, readPlan(sweepFolder).runs)
    .filter(({ status, loss }) => status === 'done' && loss !== null)
    .sort((a, b) => (a.loss as number) - (b.loss as number));
  for (const { run_id } of trained) {
    const folder = latestCheckpoint(runFolder(sweepFolder, run_id));
    if (folder !== null) return { runId: run_id, folder };
  }
  throw new InputError(
    trained.length === 0
      ? `${sweepFolder}: no run has finished; train it first with mod sweep`
      : `${sweepFolder}: no finished run has kept its weights: checkpoint.keep_final of the sweep file says which do`,
  );
}

/**
 * The last checkpoint of a run.
 *
 * @throws InputError if the run keeps none, with the reason
 */
export function keptCheckpoint({ checkpoint }: PlannedRun, folder: string): string {
  const latest = latestCheckpoint(folder);
  if (latest !== null) return latest;
  const { keep_final } = checkpoint;
  throw new InputError(
    keep_final === 'all'
      ? `${folder}: no checkpoint found`
      : `${folder}: its weights were removed: the sweep file sets checkpoint.keep_final: ${keep_final}`,
  );
}

/** The modes of an evaluation without `--routing`. */
function defaultModes(model: Transformer, { autoregressive }: TargetOptions): RoutingMode[] {
  return autoregressive ? weightsModes(model) : ['topk'];
}

function evaluateModel(
  model: Transformer,
  windows: HeldoutWindows,
  modes: RoutingMode[],
  options: TargetOptions & Pick<ModesOptions, 'runId' | 'seed' | 'progress' | 'endOfText'>,
): Promise<ModeResult[]> {
  const { name, precision, memory } = options.backend;
  const memoryBytes = memory()?.free ?? null;
  const batchSequences = microBatchSequences(model.config, BATCH_SEQUENCES, { name, precision, memoryBytes });
  const sequences = options.sequences ?? windows.count;
  return evaluateModes(model, windows, { ...options, modes, sequences, batchSequences });
}
