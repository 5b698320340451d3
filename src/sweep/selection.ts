/** Which runs of a sweep file a call is about: all, those that it names, or its shard, and of these what is not done. */

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
import { runFolder, tryReadPlan } from '../results/sweep-folder.js';
import type { RunEnd } from '../run/messages.js';

export interface SelectionOptions {
  resultsDir: string;
  /** Finds the baselines that `match_flops` names. */
  baselineOf: BaselineOf;
  /** Ids of the runs that the call is about; none: all. */
  only: readonly string[];
  /** Of `only`, in its order: the config_hash that each must have; none: whatever the file says now. */
  configHashes: readonly string[];
  /** The part of the plan that this machine trains; undefined: all of it. */
  shard: Shard | undefined;
  /** Train diverged runs again. */
  retry: boolean;
  /** Other than `auto`: instead of what the file says. */
  backend: RequestedBackend;
  precision: RequestedPrecision;
}

/** The plan of a sweep file under what the command line asks for in place of its words. */
export function planSweep(file: SweepFile, options: SelectionOptions): PlannedRun[] {
  const { backend, precision, baselineOf } = options;
  return expandSweep(file, baselineOf).map((run) => {
    const spec = precision === 'auto' ? run.spec : { ...run.spec, precision };
    const override = backend === 'auto' ? run.backend : backend;
    return { ...run, spec, config_hash: configHash(spec), backend: override };
  });
}

/** Whether the call is one of several that train the sweep side by side: it takes no lock but those of its runs. */
export function isPart({ only, shard }: Pick<SelectionOptions, 'only' | 'shard'>): boolean {
  return only.length > 0 || shard !== undefined;
}

/**
 * The feasible runs that a call is about, in the plan's order.
 *
 * @throws InputError for an id that the plan does not have, or a run that is another by now than was asked for
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
    throw new InputError(`--only ${unknown}: no run of this sweep; mod plan lists their ids`);
  }
  const part = shard === undefined ? plan : shardOf(plan, shard);
  const wanted = only.length === 0 ? part : part.filter(({ run_id }) => only.includes(run_id));
  return wanted.filter(({ status }) => status === 'pending');
}

/** The runs to train: not those that are done, nor diverged ones unless they are to be tried again. */
export function unfinished(folder: string, runs: readonly PlannedRun[], retry: boolean): PlannedRun[] {
  return runs.filter(({ run_id }) => {
    const status = readResult(runFolder(folder, run_id))?.status;
    return status !== 'done' && (status !== 'diverged' || retry);
  });
}

/** The runs that a person must look at before anything more is done with them. */
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
      `--config-hash: ${hashes.length} given for ${only.length} of --only: one for each is needed`,
    );
  }
  const changes = only.flatMap((id, i) => {
    const now = plan.find(({ run_id }) => run_id === id);
    if (now?.config_hash === hashes[i]) return [];
    if (now === undefined) return [`${id} is no run of it any more`];
    const before = tryReadPlan(folder)?.runs.find(({ config_hash }) => config_hash === hashes[i]);
    const keys = before === undefined ? [] : specDifferences(before.spec, now.spec);
    return [keys.length === 0 ? `${id} is another run by now` : `${id}: ${keys.join(', ')}`];
  });
  if (changes.length > 0) throw new InputError(changedText(file.path, changes));
}

/** What to do where runs were queued under a config that the file no longer has. */
export function changedText(config: string, changes: readonly string[], cancel = 'scancel the job'): string {
  return `${config} has changed since these runs were queued: ${changes.join('; ')}. Nothing was done: put the file back, or ${cancel} and queue them again with mod sweep ${config} --slurm`;
}
