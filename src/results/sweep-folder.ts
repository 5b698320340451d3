/** The folder of a sweep, results/<sweep>/: where its files are, its plan, and finding it. */
import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { InputError } from '../errors.js';
import type { PlannedRun } from '../plan/run.js';
import { readJson, writeJson, writeJsonIfChanged } from './json.js';
import { isLocked } from './lock.js';

/** plan.json: all that later commands and the training processes need to know of the sweep file. */
export interface SweepPlan {
  name: string;
  /** Absolute: the sweep file's folder, which the globs of `spec.data` are relative to. */
  base_dir: string;
  runs: PlannedRun[];
}

export interface SweepFiles {
  plan: string;
  runs: string;
  evaluations: string;
  report: string;
  lock: string;
  /** Held while the tables are made. */
  tablesLock: string;
}

/** The files of a sweep's folder. */
export function sweepFiles(folder: string): SweepFiles {
  return {
    plan: join(folder, 'plan.json'),
    runs: join(folder, 'runs.csv'),
    evaluations: join(folder, 'eval.csv'),
    report: join(folder, 'report'),
    lock: join(folder, '.lock'),
    tablesLock: join(folder, '.tables.lock'),
  };
}

/** The folder of a run; InputError for an id that would lead out of the sweep's. */
export function runFolder(sweepFolder: string, runId: string): string {
  if (!/^[^./\\][^/\\]*$/.test(runId)) throw new InputError(`'${runId}' is no run id`);
  return join(sweepFolder, runId);
}

/** Whether a sweep is at work there: also before its first run has started, and between two. */
export function isSweeping(sweepFolder: string): boolean {
  return isLocked(sweepFiles(sweepFolder).lock);
}

export function writePlan(folder: string, plan: SweepPlan): void {
  writeJson(sweepFiles(folder).plan, plan);
}

/** For one process of many that train the sweep side by side: a plan that is there is what the others read. */
export function writePlanIfChanged(folder: string, plan: SweepPlan): void {
  writeJsonIfChanged(sweepFiles(folder).plan, plan);
}

/** @throws InputError if there is no plan */
export function readPlan(folder: string): SweepPlan {
  const found = tryReadPlan(folder);
  if (found !== null) return found;
  throw new InputError(`${sweepFiles(folder).plan}: no such file: ${folder} is no sweep's folder`);
}

/** Null where there is none. */
export function tryReadPlan(folder: string): SweepPlan | null {
  const { plan } = sweepFiles(folder);
  const found = readJson(plan) as SweepPlan | null;
  if (found !== null && !Array.isArray(found.runs)) throw new InputError(`${plan}: no plan of a sweep`);
  return found;
}

export interface FoundSweep {
  sweepFolder: string;
  /** The run, where the target was a run's folder. */
  runId: string | null;
}

/**
 * What TARGET means: a sweep's folder, a run's folder, the name of either under the results, or, where it is undefined,
 * the newest sweep: the one whose plan or table was written last.
 *
 * @throws InputError if there is no such thing
 */
export function findSweep(target: string | undefined, resultsDir: string): FoundSweep {
  if (target === undefined) return { sweepFolder: newestSweep(resultsDir), runId: null };
  for (const folder of [resolve(target), resolve(resultsDir, target)]) {
    if (isSweepFolder(folder)) return { sweepFolder: folder, runId: null };
    const sweepFolder = dirname(folder);
    const runId = basename(folder);
    if (isSweepFolder(sweepFolder) && readPlan(sweepFolder).runs.some((run) => run.run_id === runId)) {
      return { sweepFolder, runId };
    }
  }
  throw new InputError(`${target}: neither a sweep's folder nor a run's, here or in ${resultsDir}`);
}

function newestSweep(resultsDir: string): string {
  let names: string[];
  try {
    names = readdirSync(resultsDir);
  } catch {
    names = [];
  }
  const sweeps = names.map((name) => resolve(resultsDir, name)).filter(isSweepFolder);
  const [newest] = sweeps.sort((a, b) => lastWritten(b) - lastWritten(a));
  if (newest === undefined) {
    throw new InputError(`${resultsDir}: no sweep there: run mod sweep first, or name another --results`);
  }
  return newest;
}

function isSweepFolder(folder: string): boolean {
  return modified(sweepFiles(folder).plan) !== null;
}

/** Milliseconds since 1970. */
function lastWritten(folder: string): number {
  const { plan, runs } = sweepFiles(folder);
  return Math.max(modified(plan) ?? 0, modified(runs) ?? 0);
}

function modified(path: string): number | null {
  try {
    return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? null;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return null; // below a plain file, as results/README.md is
    throw error;
  }
}
