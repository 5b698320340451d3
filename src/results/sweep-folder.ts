/** The folder of a sweep, results/<sweep>/: where its files are, its plan, and finding it. */
import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { InputError, TryLaterError } from '../errors.js';
import { readJson, writeJson, writeJsonIfChanged } from '../files/json.js';
import { describeHolder, isLocked, type Lock, waitForLock } from '../files/lock.js';
import { firstOf } from '../format.js';
import type { PlannedRun } from '../plan/run.js';
import { specDifferences } from './run-folder.js';

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
  /** Held while the tables are made, or the plan is written. */
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

/** Seconds that one who makes the tables, or writes the plan, waits for another. */
const PATIENCE = 30;

/**
 * The lock of those who make the tables or write the plan, one at a time.
 *
 * @throws TryLaterError if another process does nothing else for half a minute
 */
export function lockTables(folder: string, description: string): Lock {
  return waitForLock(sweepFiles(folder).tablesLock, description, PATIENCE);
}

/** For the process that holds the sweep. */
export function writePlan(folder: string, plan: SweepPlan): void {
  const lock = lockTables(folder, 'mod writing a plan');
  try {
    writeJson(sweepFiles(folder).plan, plan);
  } finally {
    lock.release();
  }
}

/**
 * For one process of many that train the sweep side by side: a plan that says the same is left alone, and so is that of a
 * process that holds the sweep, which trains by it. None takes the sweep and writes its own between the look and the rename.
 *
 * @throws TryLaterError if that one trains by another plan, naming what differs
 */
export function writePlanOfPart(folder: string, plan: SweepPlan): void {
  const files = sweepFiles(folder);
  if (JSON.stringify(tryReadPlan(folder)) === JSON.stringify(plan)) return;
  const tables = lockTables(folder, 'mod writing a plan');
  try {
    const held = isLocked(files.lock) ? tryReadPlan(folder) : null;
    const differences = held === null ? [] : planDifferences(held, plan);
    if (held === null) writeJsonIfChanged(files.plan, plan);
    if (differences.length === 0) return;
    throw new TryLaterError(
      `${files.lock} is held by ${describeHolder(files.lock)}, whose plan is another: ${firstOf(differences).join('; ')}. Nothing was done: put the file back, or try again when that process has ended`,
    );
  } finally {
    tables.release();
  }
}

/** In what two plans would train something else; backend and checkpoints decide no result. */
function planDifferences(before: SweepPlan, after: SweepPlan): string[] {
  const folders =
    before.base_dir === after.base_dir ? [] : [`folder of the file: ${before.base_dir} → ${after.base_dir}`];
  const [old, now] = [runsById(before), runsById(after)];
  const runs = [...new Set([...old.keys(), ...now.keys()])].flatMap((id) => {
    const [was, is] = [old.get(id), now.get(id)];
    if (was === undefined) return [`${id} is new`];
    if (is === undefined) return [`${id} is no run of it any more`];
    if (was.config_hash === is.config_hash) return [];
    return [`${id}: ${specDifferences(was.spec, is.spec).join(', ')}`];
  });
  return [...folders, ...runs];
}

const runsById = ({ runs }: SweepPlan) => new Map(runs.map((run) => [run.run_id, run]));

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
