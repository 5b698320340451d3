/** A whole sweep: plans it, trains what is not done in processes of their own, and keeps its tables up to date. */

import { execFile } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type BackendChoice, describeBackend } from '../backends/choose.js';
import type { SweepFile } from '../config/sweep-file.js';
import { InputError, messageOf } from '../errors.js';
import { configHash } from '../plan/canonical.js';
import { expandSweep } from '../plan/expand.js';
import type { BackendName, PlannedRun, Precision } from '../plan/run.js';
import { baselinesOf } from '../report/baseline.js';
import { makeResultsFolder } from '../results/atomic.js';
import { isDiskFull } from '../results/checkpoint-writer.js';
import { acquireLock } from '../results/lock.js';
import { readResult } from '../results/run-folder.js';
import { runFolder, sweepFiles, writeEvalCsv, writePlan, writeRunsCsv } from '../results/sweep-folder.js';
import { barDisplay, type Display, lineDisplay, silentDisplay } from './display.js';
import { automaticJobs, inParallel } from './jobs.js';
import { removeWeights } from './keep-weights.js';
import type { RunEnd } from './messages.js';
import { modelTable } from './parameter-table.js';
import { checkData, checkDisk, checkResults } from './preflight.js';
import { RunProcesses } from './run-processes.js';
import type { StopReason } from './stop-request.js';

export interface SweepOptions {
  resultsDir: string;
  /** Runs that train side by side. */
  jobs: number | 'auto';
  /** Ids of the runs to train, without the sweep's lock; none: all that are not done. */
  only: readonly string[];
  /** Train diverged runs again. */
  retry: boolean;
  /** Hours after which the sweep saves, stops and is to be started again; undefined: as long as it takes. */
  maxHours: number | undefined;
  quiet: boolean;
  /** Other than `auto`: instead of what the file says. */
  backend: BackendName | 'auto';
  precision: Precision;
  out: NodeJS.WriteStream;
  /** The script that `node` is given to train one run. */
  program: string;
}

export interface SweepOutcome {
  folder: string;
  /** Runs of this call that a person must look at, those that diverged before among them. */
  failed: RunEnd[];
  /** Runs that are to be gone on with: another process trains them, or something stopped them alone. */
  unfinished: RunEnd[];
  /** What ended the sweep before its end. */
  stoppedBy: StopReason | null;
  /** Runs that this call has trained, however they ended. */
  trained: RunEnd[];
}

/** Milliseconds between the lines where there is no terminal. */
const LINE_INTERVAL = 15_000;

/**
 * Trains the runs of a sweep file that are not done. A run that fails is noted and the others go on.
 *
 * @throws InputError for missing data, results that cannot be written or were made under another config
 * @throws TryLaterError if another process holds the sweep
 */
export async function sweep(file: SweepFile, options: SweepOptions): Promise<SweepOutcome> {
  const baselines = baselinesOf(file, options.resultsDir);
  const plan = expandSweep(file, baselines).map((run) => overridden(run, options));
  const wanted = selected(plan, options.only).filter(({ status }) => status === 'pending');
  const folder = join(options.resultsDir, file.name);
  checkResults(folder, plan);
  checkData(unfinished(folder, wanted, options.retry), file.dir);
  makeResultsFolder(folder);
  const lock =
    options.only.length > 0 ? null : acquireLock(sweepFiles(folder).lock, `mod sweep ${file.path}`);
  try {
    writePlan(folder, { name: file.name, base_dir: file.dir, runs: plan });
    const todo = unfinished(folder, wanted, options.retry);
    const ends =
      todo.length === 0
        ? nothingToDo(folder, wanted, options)
        : await trainAll(folder, plan, todo, wanted, options);
    writeTables(folder, plan);
    return { folder, ...ends };
  } finally {
    lock?.release();
  }
}

/** A run with what the command line asks for in place of the file's words. */
function overridden(run: PlannedRun, { backend, precision }: SweepOptions): PlannedRun {
  const spec = precision === 'auto' ? run.spec : { ...run.spec, precision };
  return {
    ...run,
    spec,
    config_hash: configHash(spec),
    backend: backend === 'auto' ? run.backend : backend,
  };
}

function selected(plan: readonly PlannedRun[], only: readonly string[]): readonly PlannedRun[] {
  if (only.length === 0) return plan;
  const known = new Set(plan.map(({ run_id }) => run_id));
  const unknown = only.find((id) => !known.has(id));
  if (unknown !== undefined) {
    throw new InputError(`--only ${unknown}: no run of this sweep; mod plan lists their ids`);
  }
  return plan.filter(({ run_id }) => only.includes(run_id));
}

/** The runs that this call trains: not those that are done, nor diverged ones unless they are to be tried again. */
function unfinished(folder: string, runs: readonly PlannedRun[], retry: boolean): PlannedRun[] {
  return runs.filter(({ run_id }) => {
    const status = readResult(runFolder(folder, run_id))?.status;
    return status !== 'done' && (status !== 'diverged' || retry);
  });
}

function nothingToDo(
  folder: string,
  wanted: readonly PlannedRun[],
  { quiet, out }: SweepOptions,
): Omit<SweepOutcome, 'folder'> {
  const failed = divergedBefore(folder, wanted);
  if (!quiet) {
    out.write(
      `nothing to train: ${wanted.length - failed.length} of ${wanted.length} runs are done, ${sweepFiles(folder).runs}\n`,
    );
  }
  return { failed, unfinished: [], stoppedBy: null, trained: [] };
}

function divergedBefore(folder: string, runs: readonly PlannedRun[]): RunEnd[] {
  return runs.flatMap(({ run_id }) => {
    const result = readResult(runFolder(folder, run_id));
    return result?.status === 'diverged' ? [{ runId: run_id, status: result.status, note: result.note }] : [];
  });
}

async function trainAll(
  folder: string,
  plan: readonly PlannedRun[],
  todo: PlannedRun[],
  wanted: readonly PlannedRun[],
  options: SweepOptions,
): Promise<Omit<SweepOutcome, 'folder'>> {
  const backends = await backendsOf(todo, options.program);
  const names = [...backends.values()].map(({ name }) => name);
  const jobs = options.jobs === 'auto' ? Math.min(...names.map(automaticJobs)) : options.jobs;
  checkDisk(folder, todo, jobs);
  const before = wanted.filter((run) => !todo.includes(run));
  if (!options.quiet) {
    const intro = [...backends.values()].map(describeBackend);
    options.out.write(`${[...intro, '', modelTable(todo), ''].join('\n')}\n`);
  }
  const display = displayOf(options, wanted.length, before.length);
  const threads = Math.max(1, Math.floor(availableParallelism() / Math.min(jobs, todo.length)));
  const processes = new RunProcesses(options.program, folder, threads, (message) => {
    if (message.type === 'started') tryTables(folder, plan);
    display.message(message);
  });
  const failed = divergedBefore(folder, before);
  const [unfinished, trained]: [RunEnd[], RunEnd[]] = [[], []];
  writeTables(folder, plan);
  let diskIsFull = false;
  const timer = after(options.maxHours, () => processes.stop('max-hours'));
  try {
    await inParallel(
      todo,
      jobs,
      async (run) => {
        const noRoom = roomProblem(folder, run);
        if (noRoom !== null) {
          diskIsFull = true;
          failed.push(noRoom);
          return;
        }
        const end = await processes.train(run, backends.get(backendKey(run)) as BackendChoice);
        if (end.status !== 'running') trained.push(end);
        if (end.status === 'running' || end.status === 'interrupted') unfinished.push(end);
        else if (end.status !== 'done') failed.push(end);
        display.ended(end);
        if (options.only.length === 0) removeWeights(folder, plan);
        tryTables(folder, plan);
      },
      () => processes.stoppedBy !== null || diskIsFull,
    );
  } finally {
    clearInterval(timer);
    processes.close();
    display.close();
  }
  return { failed, unfinished, stoppedBy: processes.stoppedBy, trained };
}

/** Calls once so many hours are over: looked at every second, since a timer takes no more than 24 days. */
function after(hours: number | undefined, call: () => void): NodeJS.Timeout | undefined {
  if (hours === undefined) return undefined;
  const end = performance.now() + 3_600_000 * hours;
  const timer = setInterval(() => {
    if (performance.now() < end) return;
    clearInterval(timer);
    call();
  }, 1000);
  return timer;
}

/** What computes each kind of run, found out once, so that all runs of a kind compute with the same. */
async function backendsOf(runs: readonly PlannedRun[], program: string): Promise<Map<string, BackendChoice>> {
  const chosen = new Map<string, BackendChoice>();
  for (const run of runs) {
    const key = backendKey(run);
    if (!chosen.has(key)) chosen.set(key, await askBackend(run, program));
  }
  return chosen;
}

/** In a process of its own: what native code does when it is loaded must not end the sweep. */
async function askBackend({ backend, spec }: PlannedRun, program: string): Promise<BackendChoice> {
  const args = [program, 'probe', '--backend', backend, '--precision', spec.precision];
  try {
    const { stdout } = await promisify(execFile)(process.execPath, args);
    return JSON.parse(stdout) as BackendChoice;
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim().replace(/^mod: /, '');
    throw new InputError(said || messageOf(error));
  }
}

function backendKey({ backend, spec }: PlannedRun): string {
  return `${backend} ${spec.precision}`;
}

function displayOf({ quiet, out }: SweepOptions, total: number, done: number): Display {
  if (quiet) return silentDisplay;
  const options = { total, done, out, now: Date.now, interval: LINE_INTERVAL };
  return out.isTTY ? barDisplay(options) : lineDisplay(options);
}

/** The failure of a run that the disk has no room for by now. */
function roomProblem(folder: string, run: PlannedRun): RunEnd | null {
  try {
    checkDisk(folder, [run], 1);
    return null;
  } catch (error) {
    return { runId: run.run_id, status: 'failed', note: messageOf(error) };
  }
}

/** Tables in between: if a full disk takes them no more, those at the end say so. */
function tryTables(folder: string, plan: readonly PlannedRun[]): void {
  try {
    writeTables(folder, plan);
  } catch (error) {
    if (!isDiskFull((error as NodeJS.ErrnoException).code)) throw error;
  }
}

function writeTables(folder: string, plan: readonly PlannedRun[]): void {
  writeRunsCsv(folder, plan);
  writeEvalCsv(folder, plan);
}
