/** A sweep's folder, results/<sweep>/: its files, its plan, and how a command finds it. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { InputError, TryLaterError } from '../errors.js';
import { readJson, writeJson, writeJsonIfChanged } from '../files/json.js';
import { describeHolder, isLocked, type Lock, waitForLock } from '../files/lock.js';
import { firstOf } from '../format.js';
import type { PlannedRun } from '../plan/run.js';
import { runFiles, specDifferences } from './run-folder.js';

/** plan.json: the content of the sweep file that later commands and training processes need. */
export interface SweepPlan {
  name: string;
  /** Absolute path of the sweep file's folder; the globs of `spec.data` are relative to it. */
  base_dir: string;
  /** The same, relative to the sweep's folder: it is found after the whole tree has moved. Absent in plans of older versions. */
  base_from_here?: string;
  runs: PlannedRun[];
}

/** The plan of a sweep file in `folder`. */
export function planIn(
  folder: string,
  { name, dir }: { name: string; dir: string },
  runs: PlannedRun[],
): SweepPlan {
  return { name, base_dir: dir, base_from_here: relative(resolve(folder), dir), runs };
}

export interface SweepFiles {
  plan: string;
  /** Warnings about the data that the runs were trained on. */
  dataWarnings: string;
  runs: string;
  evaluations: string;
  report: string;
  lock: string;
  /** Held while the tables or the plan are written. */
  tablesLock: string;
}

/** The files of a sweep's folder. */
export function sweepFiles(folder: string): SweepFiles {
  return {
    plan: join(folder, 'plan.json'),
    dataWarnings: join(folder, 'data-warnings.json'),
    runs: join(folder, 'runs.csv'),
    evaluations: join(folder, 'eval.csv'),
    report: join(folder, 'report'),
    lock: join(folder, '.lock'),
    tablesLock: join(folder, '.tables.lock'),
  };
}

/** The folder of a run. @throws InputError for an id that leads out of the sweep's folder */
export function runFolder(sweepFolder: string, runId: string): string {
  if (!/^[^./\\][^/\\]*$/.test(runId)) throw new InputError(`'${runId}' is not a run id`);
  return join(sweepFolder, runId);
}

/** Whether `mod sweep` is running in this folder, even if no run is training. */
export function isSweeping(sweepFolder: string): boolean {
  return isLocked(sweepFiles(sweepFolder).lock);
}

/** Seconds to wait while another process writes the tables or the plan. */
const LOCK_TIMEOUT = 30;

/**
 * The lock for writing the tables or the plan.
 *
 * @throws TryLaterError if another process holds it for 30 s
 */
export function lockTables(folder: string, description: string): Lock {
  return waitForLock(sweepFiles(folder).tablesLock, description, LOCK_TIMEOUT);
}

/** Writes the plan. The caller holds the sweep's lock. */
export function writePlan(folder: string, plan: SweepPlan): void {
  const lock = lockTables(folder, 'mod writing a plan');
  try {
    writeJson(sweepFiles(folder).plan, plan);
  } finally {
    lock.release();
  }
}

/**
 * Writes the plan for one of several processes that train parts of the sweep in parallel, without the sweep's lock. An
 * equal plan is kept, and so is that of a process that holds the sweep's lock. The tables' lock excludes other writers.
 *
 * @throws TryLaterError if the holder's plan differs, naming the differences
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
      `${files.lock} is held by ${describeHolder(files.lock)}, whose plan differs: ${firstOf(differences).join('; ')}. Nothing was done: restore the file, or try again when that process has ended`,
    );
  } finally {
    tables.release();
  }
}

/** Keeps warnings about the data for the report; without any, no file is made. */
export function writeDataWarnings(folder: string, warnings: readonly string[]): void {
  const path = sweepFiles(folder).dataWarnings;
  if (warnings.length > 0 || existsSync(path)) writeJsonIfChanged(path, { warnings: [...new Set(warnings)] });
}

/** Warnings about the data of a sweep when runs of it were started; none of sweeps that older versions trained. */
export function readDataWarnings(folder: string): string[] {
  const { warnings = [] } = (readJson(sweepFiles(folder).dataWarnings) ?? {}) as { warnings?: string[] };
  return warnings;
}

/** Differences between two plans that change results; backend and checkpoint settings do not. */
function planDifferences(before: SweepPlan, after: SweepPlan): string[] {
  const folders =
    before.base_dir === after.base_dir ? [] : [`folder of the file: ${before.base_dir} → ${after.base_dir}`];
  const [old, now] = [runsById(before), runsById(after)];
  const runs = [...new Set([...old.keys(), ...now.keys()])].flatMap((id) => {
    const [was, is] = [old.get(id), now.get(id)];
    if (was === undefined) return [`${id} is new`];
    if (is === undefined) return [`${id} is no longer in it`];
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
  throw new InputError(`${sweepFiles(folder).plan}: no such file: ${folder} is not a sweep's folder`);
}

/** Null if there is none. If the sweep file's folder is gone, and the tree has moved, `base_dir` is the folder at present. */
export function tryReadPlan(folder: string): SweepPlan | null {
  const { plan } = sweepFiles(folder);
  const found = readJson(plan) as SweepPlan | null;
  if (found !== null && !Array.isArray(found.runs))
    throw new InputError(`${plan}: not a sweep's plan; delete it and run mod sweep again`);
  return found === null ? null : { ...found, base_dir: presentBase(folder, found) };
}

function presentBase(folder: string, { base_dir, base_from_here }: SweepPlan): string {
  if (base_from_here === undefined || existsSync(base_dir)) return base_dir;
  const moved = resolve(folder, base_from_here);
  return existsSync(moved) ? moved : base_dir;
}

/** Ids of the started runs in a sweep's folder that its plan does not contain: points that the sweep file lost. */
export function orphanRuns(sweepFolder: string, runs: readonly { run_id: string }[]): string[] {
  const planned = new Set(runs.map(({ run_id }) => run_id));
  return readdirSync(sweepFolder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !planned.has(entry.name))
    .map(({ name }) => name)
    .filter((name) => existsSync(runFiles(join(sweepFolder, name)).manifest))
    .sort();
}

export interface FoundSweep {
  sweepFolder: string;
  /** The run, if the target is a run's folder. */
  runId: string | null;
}

/**
 * Resolves TARGET: a sweep's folder, a run's folder, or the name of either below `resultsDir`; undefined: the newest sweep,
 * whose plan or runs.csv was written last.
 *
 * @throws InputError if there is no such sweep or run
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
  throw new InputError(`${target}: not the folder of a sweep or run, here or in ${resultsDir}`);
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
    throw new InputError(
      `${resultsDir}: contains no sweep: run mod sweep first, or choose another --results`,
    );
  }
  return newest;
}

/** Whether a folder is that of a sweep: it has a plan. */
export function isSweepFolder(folder: string): boolean {
  return modified(sweepFiles(folder).plan) !== null;
}

/** Milliseconds since 1970. */
function lastWritten(folder: string): number {
  const { plan, runs } = sweepFiles(folder);
  return Math.max(modified(plan) ?? 0, modified(runs) ?? 0);
}

/** A parent is a plain file, such as results/README.md, a link in a circle, or a folder of another user. */
const NO_FOLDER: ReadonlySet<string | undefined> = new Set(['ENOTDIR', 'ELOOP', 'EACCES']);

function modified(path: string): number | null {
  try {
    return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? null;
  } catch (error) {
    if (NO_FOLDER.has((error as NodeJS.ErrnoException).code)) return null;
    throw error;
  }
}
