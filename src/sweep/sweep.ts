/** A whole sweep: plans it, trains what is not done in processes of their own, and keeps its tables up to date. */

import { execFile } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type BackendChoice, describeBackend } from '../backends/choose.js';
import { BACKENDS } from '../backends/names.js';
import { pruneFinishedRuns } from '../checkpoint/pruning.js';
import type { SweepFile } from '../config/sweep-file.js';
import { InputError, messageOf } from '../errors.js';
import { isDiskFull, makeResultsFolder } from '../files/atomic.js';
import { acquireLock } from '../files/lock.js';
import { visibleGpus } from '../machine.js';
import type { PlannedRun } from '../plan/run.js';
import type { RunRow } from '../results/columns.js';
import { type SweepPlan, sweepFiles, writePlan, writePlanOfPart } from '../results/sweep-folder.js';
import { currentRows, writeTables } from '../results/tables.js';
import type { RunEnd } from '../run/messages.js';
import type { StopReason } from '../run/stop-request.js';
import { barDisplay, type Display, lineDisplay, silentDisplay } from './display.js';
import { automaticJobs, inParallel, startingOrder } from './jobs.js';
import { modelTable } from './model-table.js';
import { checkData, checkDisk, checkResults } from './preflight.js';
import { RunProcesses } from './run-processes.js';
import {
  divergedBefore,
  isPart,
  planSweep,
  type SelectionOptions,
  selectRuns,
  unfinished,
} from './selection.js';

export interface SweepOptions extends SelectionOptions {
  /** Runs that train side by side. */
  jobs: number | 'auto';
  /** Hours after which the sweep saves, stops and is to be started again; undefined: as long as it takes. */
  maxHours: number | undefined;
  quiet: boolean;
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
  /** Every run of the sweep as it is at the end. */
  rows: RunRow[];
}

type Ends = Omit<SweepOutcome, 'folder' | 'rows'>;

/** Milliseconds between the lines where there is no terminal. */
const LINE_INTERVAL = 15_000;

/**
 * Trains the runs of a sweep file that are not done. A run that fails is noted and the others go on.
 *
 * @throws InputError for missing data, results that cannot be written or were made under another config
 * @throws TryLaterError if another process holds the sweep, or, from a part of it, trains it by another plan
 */
export async function sweep(file: SweepFile, options: SweepOptions): Promise<SweepOutcome> {
  const runs = planSweep(file, options);
  const plan: SweepPlan = { name: file.name, base_dir: file.dir, runs };
  const folder = join(options.resultsDir, file.name);
  const part = isPart(options);
  const wanted = selectRuns(file, folder, runs, options);
  checkResults(folder, part ? wanted : runs, file.dir, options.retry);
  checkData(unfinished(folder, wanted, options.retry), file.dir);
  makeResultsFolder(folder);
  const lock = part ? null : acquireLock(sweepFiles(folder).lock, `mod sweep ${file.path}`);
  try {
    const write = part ? writePlanOfPart : writePlan;
    write(folder, plan);
    const todo = unfinished(folder, wanted, options.retry);
    const ends =
      todo.length === 0
        ? nothingToDo(folder, runs, wanted, options)
        : await trainAll(folder, plan, todo, wanted, options);
    return { folder, ...ends, rows: lastTables(folder, runs, ends) };
  } finally {
    lock?.release();
  }
}

function nothingToDo(
  folder: string,
  plan: readonly PlannedRun[],
  wanted: readonly PlannedRun[],
  options: SweepOptions,
): Ends {
  const failed = divergedBefore(folder, wanted);
  const done = `${wanted.length - failed.length} of ${wanted.length} runs are done, ${sweepFiles(folder).runs}`;
  if (!options.quiet) {
    options.out.write(`nothing to train: ${wanted.length > 0 ? done : whyNone(plan, options)}\n`);
  }
  return { failed, unfinished: [], stoppedBy: null, trained: [] };
}

/** Why a call is about no run that could be trained: its shard has none, or those that it names are not feasible. */
function whyNone(plan: readonly PlannedRun[], { only, shard }: SweepOptions): string {
  if (shard !== undefined) {
    const feasible = plan.filter(({ status }) => status === 'pending').length;
    return `shard ${shard.index}/${shard.of} is empty, of ${feasible} runs that can be trained`;
  }
  const named = plan.filter(({ run_id }) => only.includes(run_id));
  return named.map(({ run_id, note }) => `${run_id}: ${note}`).join('\n');
}

async function trainAll(
  folder: string,
  { runs: plan, base_dir }: SweepPlan,
  todo: PlannedRun[],
  wanted: readonly PlannedRun[],
  options: SweepOptions,
): Promise<Ends> {
  const backends = await backendsOf(todo, options.program);
  const names = [...backends.values()].map(({ name }) => name);
  const gpus = names.every((name) => BACKENDS[name].occupies === 'core') ? [] : visibleGpus();
  const automatic = () => Math.min(...names.map((name) => automaticJobs(name, gpus.length)));
  const jobs = options.jobs === 'auto' ? automatic() : options.jobs;
  checkDisk(folder, todo, jobs);
  const before = wanted.filter((run) => !todo.includes(run));
  if (!options.quiet) {
    const intro = [...backends.values()].map(describeBackend);
    options.out.write(`${[...intro, '', modelTable(todo), ''].join('\n')}\n`);
  }
  const display = displayOf(options, wanted.length, before.length);
  const threads = Math.max(1, Math.floor(availableParallelism() / Math.min(jobs, todo.length)));
  // Of many parts side by side each would read all the folders whenever one of its runs starts or ends: they make the
  // tables at their end alone.
  const tables = () => (isPart(options) ? undefined : tryTables(folder, plan));
  const processes = new RunProcesses(options.program, folder, base_dir, threads, gpus, (message) => {
    if (message.type === 'started') tables();
    display.message(message);
  });
  const failed = divergedBefore(folder, before);
  const [open, trained]: [RunEnd[], RunEnd[]] = [[], []];
  tables();
  let diskIsFull = false;
  const timer = after(options.maxHours, () => processes.stop('max-hours'));
  try {
    await inParallel(
      startingOrder(todo, jobs, options.maxHours),
      jobs,
      async (run, slot) => {
        const noRoom = roomProblem(folder, run);
        if (noRoom !== null) {
          diskIsFull = true;
          failed.push(noRoom);
          return;
        }
        const end = await processes.train(run, backends.get(backendKey(run)) as BackendChoice, slot);
        if (end.status !== 'running') trained.push(end);
        if (end.status === 'running' || end.status === 'interrupted') open.push(end);
        else if (end.status !== 'done') failed.push(end);
        display.ended(end);
        pruneFinishedRuns(folder, plan);
        tables();
      },
      () => processes.stoppedBy !== null || diskIsFull,
    );
  } finally {
    clearInterval(timer);
    processes.close();
    display.close();
  }
  return { failed, unfinished: open, stoppedBy: processes.stoppedBy, trained };
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

/** The tables at the end. On a full disk the run that it has stopped says more, and with numbers. */
function lastTables(folder: string, plan: readonly PlannedRun[], { failed }: Ends): RunRow[] {
  try {
    return writeTables(folder, plan);
  } catch (error) {
    if (failed.length === 0 || !isDiskFull((error as NodeJS.ErrnoException).code)) throw error;
    return currentRows(folder, plan);
  }
}
