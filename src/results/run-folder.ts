/** A run's folder, results/<sweep>/<run-id>/: its files, and the content of the JSON ones. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { BackendName } from '../backends/names.js';
import type { Precision } from '../backends/precisions.js';
import type { DataFiles } from '../data/config.js';
import { InputError } from '../errors.js';
import { readJson, writeJson } from '../files/json.js';
import { isLocked } from '../files/lock.js';
import { firstOf } from '../format.js';
import type { PlannedRun, RunSpec } from '../plan/run.js';
import { EMPTY_RUN, type EvalRow, type PlannedColumns, type RunRow } from './columns.js';
import { fileDifferences, type RecordedFiles } from './recorded-files.js';
import { hasEnded } from './run-status.js';

/** manifest.json, written when training starts: what the run is trained with. */
export interface Manifest extends RecordedFiles {
  run_id: string;
  config_hash: string;
  seed: number;
  spec: RunSpec;
  backend: BackendName;
  precision: Precision;
  device: string;
  /** Sequences that pass through the model at once. */
  micro_batch_sequences: number;
  versions: Record<string, string | null>;
  git_commit: string | null;
  /** Of the first attempt. */
  started_at: string;
  /** One for each process that trained the run, including the first. */
  attempts: Attempt[];
  /** First sequences of skipped batches, whose loss or gradient norm was not finite. */
  skipped_batches: number[];
}

export interface Attempt {
  started_at: string;
  /** Step of the checkpoint that it resumed from; 0: the start. */
  from_step: number;
  backend: BackendName;
  device: string;
  /** Of the program; absent in manifests of older versions. */
  version?: string;
  git_commit: string | null;
}

export interface RunFiles {
  manifest: string;
  /** The run's row, once it has ended. */
  result: string;
  /** Its rows of eval.csv. */
  evaluation: string;
  /** Sums of its held-out losses by document. */
  heldoutLosses: string;
  /** Progress of an evaluation that has not ended. */
  evaluationProgress: string;
  steps: string;
  log: string;
  checkpoints: string;
  lock: string;
}

/** The files of a run's folder. */
export function runFiles(folder: string): RunFiles {
  return {
    manifest: join(folder, 'manifest.json'),
    result: join(folder, 'result.json'),
    evaluation: join(folder, 'eval.json'),
    heldoutLosses: join(folder, 'heldout-losses.csv'),
    evaluationProgress: join(folder, '.eval-progress.json'),
    steps: join(folder, 'steps.csv'),
    log: join(folder, 'log.txt'),
    checkpoints: join(folder, 'checkpoints'),
    lock: join(folder, '.lock'),
  };
}

export function writeManifest(folder: string, manifest: Manifest): void {
  writeJson(runFiles(folder).manifest, manifest);
}

/** Null before the run's first start. */
export function readManifest(folder: string): Manifest | null {
  return readJson(runFiles(folder).manifest) as Manifest | null;
}

export function writeResult(folder: string, row: RunRow): void {
  writeJson(runFiles(folder).result, row);
}

/** Null before the run has ended. */
export function readResult(folder: string): RunRow | null {
  return readJson(runFiles(folder).result) as RunRow | null;
}

export function writeEvaluations(folder: string, rows: readonly EvalRow[]): void {
  writeJson(runFiles(folder).evaluation, rows);
}

/** None before the run's first evaluation. */
export function readEvaluations(folder: string): EvalRow[] {
  return (readJson(runFiles(folder).evaluation) ?? []) as EvalRow[];
}

/** The row of a run that has not been started. */
export function planRow(run: PlannedRun): RunRow {
  const { spec } = run;
  const { model } = spec;
  const planned: PlannedColumns = {
    run_id: run.run_id,
    status: run.status,
    variant: spec.variant,
    flop_budget: spec.flop_budget,
    capacity: model.routing?.capacity ?? null,
    routing_frequency: model.routing?.frequency ?? null,
    router: model.routing?.router ?? null,
    gate: model.routing?.gate ?? null,
    params_total: run.params_total,
    params_non_embedding: run.params_non_embedding,
    d_model: model.d_model,
    n_layers: model.n_layers,
    n_heads: model.n_heads,
    d_ff: model.d_ff,
    sequence_length: model.sequence_length,
    batch_sequences: spec.batch_sequences,
    steps: spec.steps,
    tokens: run.tokens,
    flops_per_pass: run.flops_per_pass,
    flops_per_pass_vs_dense: run.flops_per_pass / run.flops_per_pass_dense,
    train_flops: run.train_flops,
    backend: run.backend === 'auto' ? null : run.backend,
    precision: spec.precision === 'auto' ? null : spec.precision,
    seed: spec.seed,
    config_hash: run.config_hash,
    note: run.note,
    params_active: run.params_active ?? null,
    parametrization: spec.training.parametrization ?? 'standard',
    learning_rate: spec.training.learning_rate,
  };
  return { ...EMPTY_RUN, ...planned };
}

/** The current row of a run: its result, or the plan's row completed from its lock and manifest. */
export function currentRow(folder: string, run: PlannedRun): RunRow {
  const result = readResult(folder);
  if (result?.status === 'done') return result;
  const training = isLocked(runFiles(folder).lock);
  if (result !== null && !training) return result; // a locked run is being trained again
  const manifest = readManifest(folder);
  if (manifest === null) return training ? { ...planRow(run), status: 'running' } : planRow(run);
  const { backend, precision, device, started_at, git_commit } = manifest;
  const status = training ? 'running' : 'interrupted';
  return { ...planRow(run), status, backend, precision, device, started_at, git_commit };
}

/**
 * Rejects existing results of another config or of other data. A run that has ended keeps its result and an interrupted
 * one resumes, so after such a change the result would not be that of the run which the sweep file describes.
 *
 * @param files the run's data files at present; missing ones are not compared
 * @param retry diverged runs are trained again, under any config
 * @throws InputError naming the keys and the files that differ
 */
export function assertSameConfig(
  folder: string,
  run: PlannedRun,
  files: Partial<DataFiles> = {},
  retry = false,
): void {
  const status = readResult(folder)?.status;
  if (retry && status === 'diverged') return;
  const ended = hasEnded(status);
  const manifest = readManifest(folder);
  if (manifest === null) {
    if (!ended) return;
    throw new InputError(
      `${folder}: it has a result but no manifest.json; remove the folder to train the run again`,
    );
  }
  const keys = specDifferences(manifest.spec, run.spec);
  if (!ended && keys.length > 0) return; // it starts again from the first step
  const differences = [...keys, ...firstOf(fileDifferences(manifest, files))];
  if (differences.length === 0) return;
  const what = `has ${ended ? 'ended' : 'been started'} ${keys.length > 0 ? 'under another config' : 'on other data'}`;
  const retrying = status === 'diverged' ? ', or train it again with --retry' : '';
  throw new InputError(
    `${folder}: this run ${what}: ${differences.join(', ')}. Give the sweep another name, or remove the folder to train the run again${retrying}`,
  );
}

/**
 * Rejects held-out files other than those of the run's training: the losses would not be comparable.
 *
 * @throws InputError naming the held-out files that differ
 */
export function assertSameHeldout(folder: string, { heldout }: Partial<DataFiles>): void {
  const differences = fileDifferences(readManifest(folder) ?? {}, heldout === undefined ? {} : { heldout });
  if (differences.length === 0) return;
  throw new InputError(
    `${folder}: this run's held-out data have changed: ${firstOf(differences).join(', ')}. Restore them, or name the tokens: mod eval --checkpoint DIR --tokens FILE`,
  );
}

/** Keys in which two specs differ, as `training.learning_rate: 0.001 → 0.002`. */
export function specDifferences(before: RunSpec, after: RunSpec): string[] {
  const [old, now] = [flatten(before), flatten(after)];
  return [...new Set([...old.keys(), ...now.keys()])]
    .filter((key) => old.get(key) !== now.get(key))
    .map((key) => `${key}: ${old.get(key) ?? 'absent'} → ${now.get(key) ?? 'absent'}`);
}

/** Whether a folder belongs to a run that has been started. */
export function isRunFolder(folder: string): boolean {
  return existsSync(runFiles(folder).manifest);
}

/** Values by dotted path; a list counts as one value. */
function flatten(value: unknown, path = '', into = new Map<string, string>()): Map<string, string> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    for (const [key, inner] of Object.entries(value)) flatten(inner, path ? `${path}.${key}` : key, into);
  } else if (value !== undefined) into.set(path, JSON.stringify(value));
  return into;
}
