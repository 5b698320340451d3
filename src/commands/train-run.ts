/** `mod train-run`: the process in which a sweep trains one run. Not for people: `mod sweep --only` is. */
import { chooseBackend, describeBackend } from '../backends/choose.js';
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';
import { checkpointBytes } from '../checkpoint/disk-space.js';
import { DeviceMemoryError, DiskFullError, InputError, messageOf } from '../errors.js';
import { isDiskFull, makeResultsFolder } from '../files/atomic.js';
import { acquireLock } from '../files/lock.js';
import { bytes } from '../format.js';
import { freeDiskBytes } from '../machine.js';
import type { PlannedRun } from '../plan/run.js';
import type { RunStatus } from '../results/columns.js';
import { planRow, readResult, runFiles, writeResult } from '../results/run-folder.js';
import { readPlan, runFolder } from '../results/sweep-folder.js';
import { type RunEnd, sendToParent } from '../run/messages.js';
import { type StopReason, StopRequest } from '../run/stop-request.js';
import { trainRun } from '../run/train-run.js';

export interface TrainRunCommandOptions {
  /** Of the run that the parent has planned: no other of its name is trained. */
  configHash: string;
  /** The sweep file's folder. */
  baseDir: string;
  backend: RequestedBackend;
  precision: RequestedPrecision;
}

/** Milliseconds since 1970 that no change of the system's clock moves, to the microsecond. */
const clock = () => performance.timeOrigin + performance.now();

/**
 * Trains one run of a sweep's plan, under the run's lock. What goes wrong in it becomes the run's result. SIGTERM, SIGINT
 * and the end of the parent make it save and stop. A run that another process has brought to its end since the parent
 * looked is left as it is.
 *
 * @throws InputError if the sweep's plan no longer has the run as the parent has planned it
 * @throws TryLaterError if another process holds the run
 */
export async function trainRunCommand(
  sweepFolder: string,
  runId: string,
  { configHash, baseDir, backend, precision }: TrainRunCommandOptions,
  out: (text: string) => void,
): Promise<{ end: RunEnd; stoppedBy: StopReason | null }> {
  const stop = new StopRequest();
  stop.listen();
  const run = await orFarewell(() => plannedRun(sweepFolder, runId, configHash), runId, 'failed', stop);
  const folder = runFolder(sweepFolder, runId);
  makeResultsFolder(folder);
  const take = () => acquireLock(runFiles(folder).lock, `mod training ${runId}`);
  const lock = await orFarewell(take, runId, 'running', stop);
  const log = (line: string) => out(`${new Date().toISOString()} ${line}`);
  let end: RunEnd;
  try {
    const earlier = endOfAnother(folder, run);
    if (earlier === null) {
      const chosen = await chooseBackend(backend, precision, run.spec.training.deterministic);
      log(describeBackend(chosen));
      const options = { run, folder, baseDir, stop, tell: sendToParent, log, now: clock };
      end = await trainRun({ ...options, backend: chosen });
    } else {
      log('another process has brought the run to its end meanwhile');
      end = earlier;
    }
  } catch (error) {
    if (error instanceof Error) log(error.stack ?? error.message);
    end = failed(folder, run, error);
  }
  log(`${end.status}${end.note === null ? '' : `: ${end.note}`}`);
  lock.release();
  await farewell(end, stop);
  return { end, stoppedBy: end.status === 'interrupted' ? stop.reason : null };
}

/** How the run has ended if it is done, which it was not when the parent looked; else null. */
function endOfAnother(folder: string, { run_id, config_hash }: PlannedRun): RunEnd | null {
  const result = readResult(folder);
  if (result?.status !== 'done' || result.config_hash !== config_hash) return null;
  return { runId: run_id, status: result.status, note: result.note };
}

/** Another process may have written a plan of its own, from another sweep file of this name. */
function plannedRun(sweepFolder: string, runId: string, configHash: string): PlannedRun {
  const { runs } = readPlan(sweepFolder);
  const run = runs.find(({ run_id, config_hash }) => run_id === runId && config_hash === configHash);
  if (run !== undefined) return run;
  throw new InputError(
    `the plan in ${sweepFolder} has changed since this run was planned: see that all who train the sweep have the same file, and start it again`,
  );
}

/** What an action gives; where it fails the parent hears why, and of the run that it has this status. */
async function orFarewell<T>(act: () => T, runId: string, status: RunStatus, stop: StopRequest): Promise<T> {
  try {
    return act();
  } catch (error) {
    await farewell({ runId, status, note: messageOf(error) }, stop);
    throw error;
  }
}

/** The last word to the parent, and the end of the channel that keeps this process alive. */
async function farewell(end: RunEnd, stop: StopRequest): Promise<void> {
  await sendToParent({ type: 'finished', ...end });
  stop.close();
  if (process.connected) process.disconnect();
}

function failed(folder: string, run: PlannedRun, error: unknown): RunEnd {
  const status: RunStatus = error instanceof DeviceMemoryError ? 'out-of-memory' : 'failed';
  const note = diskNote(folder, run, error) ?? messageOf(error);
  try {
    writeResult(folder, { ...planRow(run), status, note });
  } catch {
    // The folder takes no more files: the parent still hears of it.
  }
  return { runId: run.run_id, status, note };
}

/** What a full disk lacks, and what to do about it; null for another failure. */
function diskNote(folder: string, run: PlannedRun, error: unknown): string | null {
  const known = error instanceof DiskFullError;
  if (!known && !isDiskFull((error as NodeJS.ErrnoException).code)) return null;
  const numbers = `: a checkpoint takes ${bytes(checkpointBytes(run.params_total))}, ${bytes(freeDiskBytes(folder))} are free`;
  return `${messageOf(error)}${known ? '' : numbers}; make room and start the sweep again: the run goes on from its last checkpoint`;
}
