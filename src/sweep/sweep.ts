/** A sweep: plans it, trains the runs that are not done in child processes, and updates its tables. */

import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { type BackendChoice, describeBackend } from '../backends/choose.js';
import { BACKENDS } from '../backends/names.js';
import { checkpointSteps } from '../checkpoint/folder.js';
import { pruneFinishedRuns } from '../checkpoint/pruning.js';
import type { SweepFile } from '../config/sweep-file.js';
import { messageOf } from '../errors.js';
import { isDiskFull, makeResultsFolder } from '../files/atomic.js';
import { acquireLock } from '../files/lock.js';
import { movesCursor } from '../machine.js';
import type { PlannedRun } from '../plan/run.js';
import type { RunRow } from '../results/columns.js';
import { runFiles } from '../results/run-folder.js';
import { RUN_STATUSES } from '../results/run-status.js';
import {
  planIn,
  readDataWarnings,
  runFolder,
  type SweepPlan,
  sweepFiles,
  writeDataWarnings,
  writePlan,
  writePlanOfPart,
} from '../results/sweep-folder.js';
import { currentRows, writeTables } from '../results/tables.js';
import type { RunEnd, RunMessage } from '../run/messages.js';
import type { StopReason } from '../run/stop-request.js';
import { barDisplay, type Display, lineDisplay, silentDisplay } from './display.js';
import { GpuPool, gpuName } from './gpu-pool.js';
import { automaticJobs, inParallel, startingOrder, type WorkOutcome } from './jobs.js';
import { modelTable } from './model-table.js';
import { checkData, checkDisk, checkResults } from './preflight.js';
import { backendKey, lostReason, PROBE_LIMIT, probeAll } from './probing.js';
import { RunProcesses } from './run-processes.js';
import {
  divergedBefore,
  isPart,
  planSweep,
  runsToTrain,
  type SelectionOptions,
  selectRuns,
} from './selection.js';
import type { TimeLimits } from './watchdog.js';
import { estimateRun, leftOutFor } from './whole-runs.js';

export interface SweepOptions extends SelectionOptions {
  /** Runs that train in parallel. */
  jobs: number | 'auto';
  /** Hours after which the sweep saves and stops; undefined: no limit. */
  maxHours: number | undefined;
  /** With maxHours: start no run that cannot end in the time that is left. */
  wholeRuns: boolean;
  /** Whether `jobs: auto` also takes GPUs that other processes use. */
  shareGpus: boolean;
  /** Limits of processes without progress; for tests. `probe`: of the computation that checks a GPU. Milliseconds. */
  limits?: TimeLimits & { probe: number };
  quiet: boolean;
  out: NodeJS.WriteStream;
  /** Whether progress lines begin with their time. */
  times: boolean;
  /** The script of this program, which `node` runs to train one run. */
  program: string;
}

export interface SweepOutcome {
  folder: string;
  /** Ids of the feasible runs that the call selected. */
  selected: string[];
  /** Failed runs, including those that diverged in earlier calls. */
  failed: RunEnd[];
  /** Runs that are not done: another process trains them, they were interrupted, or `wholeRuns` left them out (`pending`). */
  unfinished: RunEnd[];
  /** What stopped the sweep early; null if it was not stopped. */
  stoppedBy: StopReason | null;
  /** Runs trained by this call, with any end. */
  trained: RunEnd[];
  /** One line for each GPU that was lost during this call. */
  lostGpus: readonly string[];
  /** The final rows of all runs of the sweep. */
  rows: RunRow[];
}

type Ends = Omit<SweepOutcome, 'folder' | 'selected' | 'rows'>;

/** Milliseconds between progress lines without a terminal. */
const LINE_INTERVAL = 15_000;

const NO_GPU_LEFT = 'no GPU is left on which it can train: see mod doctor, then start the sweep again';

/**
 * Trains the runs of a sweep file that are not done. If a run fails, the others continue.
 *
 * @throws InputError for missing data, or results that cannot be written or have another config
 * @throws TryLaterError if another process holds the sweep's lock, or, for a part, trains the sweep with another plan
 */
export async function sweep(file: SweepFile, options: SweepOptions): Promise<SweepOutcome> {
  const runs = planSweep(file, options);
  const folder = join(options.resultsDir, file.name);
  const plan = planIn(folder, file, runs);
  const part = isPart(options);
  const selected = selectRuns(file, folder, runs, options);
  checkResults(folder, part ? selected : runs, file.dir, options.retry);
  const warnings = await checkData(runsToTrain(folder, selected, options.retry), file.dir);
  makeResultsFolder(folder);
  const lock = part ? null : acquireLock(sweepFiles(folder).lock, `mod sweep ${file.path}`);
  try {
    const write = part ? writePlanOfPart : writePlan;
    write(folder, plan);
    const todo = runsToTrain(folder, selected, options.retry);
    // Processes that each train a part add to the warnings of the others.
    if (todo.length > 0)
      writeDataWarnings(folder, part ? [...readDataWarnings(folder), ...warnings] : warnings);
    const outcome =
      todo.length === 0
        ? nothingToDo(folder, runs, selected, options)
        : await trainAll(folder, plan, todo, selected, warnings, options);
    const ids = selected.map(({ run_id }) => run_id);
    return { folder, selected: ids, ...outcome, rows: writeFinalTables(folder, runs, outcome) };
  } finally {
    lock?.release();
  }
}

function nothingToDo(
  folder: string,
  plan: readonly PlannedRun[],
  selected: readonly PlannedRun[],
  options: SweepOptions,
): Ends {
  const failed = divergedBefore(folder, selected);
  const done = `${selected.length - failed.length} of ${selected.length} runs are done: ${sweepFiles(folder).runs}`;
  if (!options.quiet) {
    options.out.write(
      `nothing to train: ${selected.length > 0 ? done : nothingSelectedReason(plan, options)}\n`,
    );
  }
  return { failed, unfinished: [], stoppedBy: null, trained: [], lostGpus: [] };
}

/** Why a call selects no feasible run: its shard is empty, or the runs of --only are not feasible. */
function nothingSelectedReason(plan: readonly PlannedRun[], { only, shard }: SweepOptions): string {
  if (shard !== undefined) {
    const feasible = plan.filter(({ status }) => status === 'pending').length;
    return `shard ${shard.index}/${shard.of} of ${feasible} feasible runs is empty`;
  }
  const named = plan.filter(({ run_id }) => only.includes(run_id));
  return named.map(({ run_id, note }) => `${run_id}: ${note}`).join('\n');
}

async function trainAll(
  folder: string,
  { runs: plan, base_dir }: SweepPlan,
  todo: PlannedRun[],
  selected: readonly PlannedRun[],
  warnings: readonly string[],
  options: SweepOptions,
): Promise<Ends> {
  const { program, limits, jobs: requested } = options;
  const probing = {
    program,
    passesOver: requested === 'auto' && !options.shareGpus,
    limit: limits?.probe ?? PROBE_LIMIT,
  };
  const { backends, notes, ...found } = await probeAll(todo, probing);
  const names = [...backends.values()].map(({ name }) => name);
  const automatic = () => Math.min(...names.map((name) => automaticJobs(name, found.gpus.length)));
  const jobs = requested === 'auto' ? automatic() : requested;
  const gpus = new GpuPool(found.gpus, found.isSelection, jobs);
  checkDisk(folder, todo, jobs);
  const before = selected.filter((run) => !todo.includes(run));
  if (!options.quiet) {
    const intro = [...backends.values()].map(describeBackend);
    options.out.write(
      `${[...intro, ...notes, ...warnings.map((text) => `warning: ${text}`), ...plannedNotes(todo), '', modelTable(todo), ''].join('\n')}\n`,
    );
  }
  const display = displayOf(options, selected.length, before.length);
  const threads = Math.max(1, Math.floor(availableParallelism() / Math.min(jobs, todo.length)));
  // Parts of a sweep write the tables only at their end: this reads all run folders, too slow for many parts at once.
  const updateTables = () => (isPart(options) ? undefined : tryWriteTables(folder, plan));
  const onMessage = (message: RunMessage) => {
    if (message.type === 'started') updateTables();
    display.message(message);
  };
  const processes = new RunProcesses(program, folder, base_dir, threads, onMessage, limits);
  const failed = divergedBefore(folder, before);
  const [unfinished, trained]: [RunEnd[], RunEnd[]] = [[], []];
  updateTables();
  let diskIsFull = false;
  const timer = after(options.maxHours, () => processes.stop('max-hours'));
  const secondsLeft = countdown(options.maxHours);
  const backendOf = (run: PlannedRun) => backends.get(backendKey(run)) as BackendChoice;
  const settle = (end: RunEnd) => {
    if (end.status !== 'running') trained.push(end);
    const { outcome } = RUN_STATUSES[end.status];
    if (outcome !== 'done') ({ unfinished, failed })[outcome].push(end);
  };
  const leftOut = (run: PlannedRun): RunEnd | null => {
    if (!options.wholeRuns) return null;
    const { checkpoints } = runFiles(runFolder(folder, run.run_id));
    const taken = checkpointSteps(checkpoints).at(-1) ?? 0;
    return leftOutFor(run, estimateRun(run, currentRows(folder, plan), backendOf(run), taken), secondsLeft());
  };
  /** The end of each run that went back to the queue. */
  const earlier = new Map<string, RunEnd>();
  /** Whether a failed run is to be trained on another GPU; a GPU that no longer works is retired. */
  const judge = async (run: PlannedRun, end: RunEnd, gpu: string): Promise<WorkOutcome> => {
    const { run_id: runId } = run;
    const backend = backendOf(run);
    if (end.status !== 'failed' || BACKENDS[backend.name].occupies !== 'gpu') return 'settled';
    if (processes.stoppedBy !== null) return 'settled';
    const lost = await lostReason(run, backend, gpus.environment(gpu), probing);
    const known = gpus.lost.length;
    const verdict = gpus.judge({ runId, gpu, lost, isOfDevice: end.isOfDevice === true });
    for (const line of gpus.lost.slice(known)) display.note(line);
    if (verdict === 'failed') return 'settled';
    earlier.set(runId, end);
    display.note(`${runId} failed on ${gpuName(gpu)} and goes back to the queue: ${end.note}`);
    return 'again';
  };
  try {
    const left = await inParallel(
      startingOrder(todo, jobs, options.maxHours),
      jobs,
      async (run, slot) => {
        const noSpace = diskFailure(folder, run);
        if (noSpace !== null) {
          diskIsFull = true;
          failed.push(noSpace);
          return 'settled';
        }
        const late = leftOut(run);
        if (late !== null) {
          unfinished.push(late);
          return 'settled';
        }
        const gpu = gpus.of(slot);
        const end = await processes.train(run, backendOf(run), gpus.environment(gpu));
        const outcome = await judge(run, end, gpu);
        if (outcome === 'settled') {
          const on = gpus.failedOn(run.run_id).map(gpuName);
          if (end.status === 'failed' && on.length > 1) end.note += `; it failed on ${on.join(' and on ')}`;
          settle(end);
          display.ended(end);
        }
        pruneFinishedRuns(folder, plan);
        updateTables();
        return outcome;
      },
      {
        stopped: () => processes.stoppedBy !== null || diskIsFull,
        accepts: ({ run_id }, slot) => gpus.accepts(run_id, slot),
      },
    );
    if (processes.stoppedBy === null && !diskIsFull) {
      for (const { run_id: runId } of left) {
        const end = earlier.get(runId);
        if (end !== undefined) settle(end);
        else unfinished.push({ runId, status: 'interrupted', note: NO_GPU_LEFT });
      }
    }
  } finally {
    clearInterval(timer);
    processes.close();
    display.close();
  }
  return { failed, unfinished, stoppedBy: processes.stoppedBy, trained, lostGpus: gpus.lost };
}

/** Calls a function after some hours. Checks the time every second, since a timer is limited to 24 days. */
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

/** Returns the seconds that are left of some hours from now on. */
function countdown(hours: number | undefined): () => number {
  const end = performance.now() + 3_600_000 * (hours ?? Number.POSITIVE_INFINITY);
  return () => Math.max(0, (end - performance.now()) / 1000);
}

function displayOf({ quiet, out, times }: SweepOptions, total: number, done: number): Display {
  if (quiet) return silentDisplay;
  const options = { total, done, out, now: Date.now, interval: LINE_INTERVAL, times };
  return movesCursor(out) ? barDisplay(options) : lineDisplay(options);
}

/** The notes of a plan: settings that one run stands for. */
function plannedNotes(runs: readonly PlannedRun[]): string[] {
  return runs.flatMap(({ run_id, note }) => (note === null ? [] : [`${run_id}: ${note}`]));
}

/** The failure of a run whose checkpoints no longer fit on the disk; null if they fit. */
function diskFailure(folder: string, run: PlannedRun): RunEnd | null {
  try {
    checkDisk(folder, [run], 1);
    return null;
  } catch (error) {
    return { runId: run.run_id, status: 'failed', note: messageOf(error) };
  }
}

/** Writes the tables during training. A full disk is ignored here and reported at the end. */
function tryWriteTables(folder: string, plan: readonly PlannedRun[]): void {
  try {
    writeTables(folder, plan);
  } catch (error) {
    if (!isDiskFull((error as NodeJS.ErrnoException).code)) throw error;
  }
}

/** Writes the tables at the end. A full disk is ignored if a run has failed: the run's error has the sizes. */
function writeFinalTables(folder: string, plan: readonly PlannedRun[], { failed }: Ends): RunRow[] {
  try {
    return writeTables(folder, plan);
  } catch (error) {
    if (failed.length === 0 || !isDiskFull((error as NodeJS.ErrnoException).code)) throw error;
    return currentRows(folder, plan);
  }
}
