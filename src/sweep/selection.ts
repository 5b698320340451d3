/** Selects the runs of a call: all, --only or a shard, and those of them that are not done. */
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';
import type { SweepFile } from '../config/sweep-file.js';
import { InputError } from '../errors.js';
import { configHash } from '../files/canonical.js';
import { expandSweep } from '../plan/expand.js';
import type { BaselineOf } from '../plan/points.js';
import type { PlannedRun } from '../plan/run.js';
import { type Shard, shardOf } from '../plan/shard.js';
import { readResult, specDifferences } from '../results/run-folder.js';
import { hasEnded } from '../results/run-status.js';
import { runFolder, tryReadPlan } from '../results/sweep-folder.js';
import type { RunEnd } from '../run/messages.js';

export interface SelectionOptions {
  resultsDir: string;
  /** Finds the baselines that `match_flops` names. */
  baselineOf: BaselineOf;
  /** Ids of the runs to train; empty: all. */
  only: readonly string[];
  /** The config_hash that each run of `only` must have, in the same order; empty: not checked. */
  configHashes: readonly string[];
  /** The part of the plan to train; undefined: all of it. */
  shard: Shard | undefined;
  /** Train diverged runs again. */
  retry: boolean;
  /** Values other than `auto` replace those of the file. */
  backend: RequestedBackend;
  precision: RequestedPrecision;
}

/** The plan of a sweep file, with the backend and precision of the command line. */
export function planSweep(file: SweepFile, options: SelectionOptions): PlannedRun[] {
  const { backend, precision, baselineOf } = options;
  return expandSweep(file, baselineOf).map((run) => {
    const spec = precision === 'auto' ? run.spec : { ...run.spec, precision };
    const override = backend === 'auto' ? run.backend : backend;
    return { ...run, spec, config_hash: configHash(spec), backend: override };
  });
}

/** Whether the call is one of several that train the sweep in parallel: it locks only its runs, not the sweep. */
export function isPart({ only, shard }: Pick<SelectionOptions, 'only' | 'shard'>): boolean {
  return only.length > 0 || shard !== undefined;
}

/**
 * The feasible runs that a call selects, in the plan's order.
 *
 * @throws InputError for an id that is not in the plan, or a run whose config hash differs from the requested one
 */
export function selectRuns(
  file: SweepFile,
  folder: string,
  plan: readonly PlannedRun[],
  { only, configHashes, shard }: SelectionOptions,
): PlannedRun[] {
  if (configHashes.length > 0) checkHashes(file, folder, plan, only, configHashes);
  const known = new Set(plan.map(({ run_id }) => run_id));
  const unknown = only.find((id) => !known.has(id));
  if (unknown !== undefined) {
    throw new InputError(`--only ${unknown}: not a run of this sweep; mod plan lists the run ids`);
  }
  const part = shard === undefined ? plan : shardOf(plan, shard);
  const selected = only.length === 0 ? part : part.filter(({ run_id }) => only.includes(run_id));
  return selected.filter(({ status }) => status === 'pending');
}

/** The runs to train: those that are neither done nor, without `retry`, diverged. */
export function runsToTrain(folder: string, runs: readonly PlannedRun[], retry: boolean): PlannedRun[] {
  return runs.filter(({ run_id }) => {
    const status = readResult(runFolder(folder, run_id))?.status;
    return !hasEnded(status) || (retry && status !== 'done');
  });
}

/** Runs that diverged in an earlier call. They are not trained again without `retry`. */
export function divergedBefore(folder: string, runs: readonly PlannedRun[]): RunEnd[] {
  return runs.flatMap(({ run_id }) => {
    const result = readResult(runFolder(folder, run_id));
    return result?.status === 'diverged' ? [{ runId: run_id, status: result.status, note: result.note }] : [];
  });
}

function checkHashes(
  file: SweepFile,
  folder: string,
  plan: readonly PlannedRun[],
  only: readonly string[],
  hashes: readonly string[],
): void {
  if (hashes.length !== only.length) {
    throw new InputError(
      `--config-hash: expected one per run of --only, got ${hashes.length} for ${only.length}`,
    );
  }
  const changes = only.flatMap((id, i) => {
    const now = plan.find(({ run_id }) => run_id === id);
    if (now?.config_hash === hashes[i]) return [];
    if (now === undefined) return [`${id} is no longer in the file`];
    const before = tryReadPlan(folder)?.runs.find(({ config_hash }) => config_hash === hashes[i]);
    const keys = before === undefined ? [] : specDifferences(before.spec, now.spec);
    return [keys.length === 0 ? `the config of ${id} has changed` : `${id}: ${keys.join(', ')}`];
  });
  if (changes.length > 0) throw new InputError(changedText(file.path, changes));
}

/** The error message for queued runs whose config is no longer that of the sweep file. */
export function changedText(config: string, changes: readonly string[], cancel = 'scancel the job'): string {
  return `${config} has changed since these runs were queued: ${changes.join('; ')}. Restore the file, or ${cancel} and queue them again with mod sweep ${config} --slurm`;
}
