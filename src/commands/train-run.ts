/**
 * `mod train-run`: entry point of the child process that trains one run of a sweep. It locks the run, chooses the backend,
 * calls executeRun, and reports the end to the parent. Internal; users call `mod sweep --only`.
 */
import { chooseBackend, describeBackend } from '../backends/choose.js';
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';
import { checkpointBytes } from '../checkpoint/disk-space.js';
import { DeviceError, DeviceMemoryError, DiskFullError, InputError, messageOf } from '../errors.js';
import { isDiskFull, makeResultsFolder } from '../files/atomic.js';
import { acquireLock } from '../files/lock.js';
import { bytes } from '../format.js';
import { freeDiskBytes } from '../machine.js';
import type { PlannedRun } from '../plan/run.js';
import { planRow, readResult, runFiles, writeResult } from '../results/run-folder.js';
import type { RunStatus } from '../results/run-status.js';
import { readPlan, runFolder } from '../results/sweep-folder.js';
import { executeRun } from '../run/execute-run.js';
import { type RunEnd, sendToParent } from '../run/messages.js';
import { type StopReason, StopRequest } from '../run/stop-request.js';

export interface TrainRunCommandOptions {
  /** Config hash of the run that the parent planned. A run with the same id and another hash is rejected. */
  configHash: string;
  /** The sweep file's folder. */
  baseDir: string;
  backend: RequestedBackend;
  precision: RequestedPrecision;
}

/** Milliseconds since 1970, with a resolution of microseconds; unaffected by changes of the system clock. */
const clock = () => performance.timeOrigin + performance.now();

/**
 * Trains one run of a sweep's plan, under the run's lock. Errors of the run become its result. On SIGTERM, SIGINT, SIGHUP or
 * the end of the parent it saves and stops. A run that another process has finished since the parent's check is unchanged.
 *
 * @throws InputError if the sweep's plan does not contain the run with this config hash
 * @throws TryLaterError if another process holds the run's lock
 */
export async function trainRunCommand(
  sweepFolder: string,
  runId: string,
  { configHash, baseDir, backend, precision }: TrainRunCommandOptions,
  out: (text: string) => void,
): Promise<{ end: RunEnd; stoppedBy: StopReason | null }> {
  const stop = new StopRequest();
  stop.listen();
  const run = await reportingErrors(() => plannedRun(sweepFolder, runId, configHash), runId, 'failed', stop);
  const folder = runFolder(sweepFolder, runId);
  makeResultsFolder(folder);
  const acquire = () => acquireLock(runFiles(folder).lock, `mod training ${runId}`);
  const lock = await reportingErrors(acquire, runId, 'running', stop);
  const log = (line: string) => out(`${new Date().toISOString()} ${line}`);
  let end: RunEnd;
  try {
    const finished = finishedElsewhere(folder, run);
    if (finished === null) {
      const chosen = await chooseBackend(backend, precision, run.spec.training.deterministic);
      log(describeBackend(chosen));
      const options = { run, folder, baseDir, stop, send: sendToParent, log, now: clock };
      end = await executeRun({ ...options, backend: chosen });
    } else {
      log('another process has finished the run');
      end = finished;
    }
  } catch (error) {
    if (error instanceof Error) log(error.stack ?? error.message);
    end = recordFailure(folder, run, error);
  }
  log(`${end.status}${end.note === null ? '' : `: ${end.note}`}`);
  lock.release();
  await reportEnd(end, stop);
  return { end, stoppedBy: end.status === 'interrupted' ? stop.reason : null };
}

/** The end of a run that was finished after the parent's check; null if it is not done. */
function finishedElsewhere(folder: string, { run_id, config_hash }: PlannedRun): RunEnd | null {
  const result = readResult(folder);
  if (result?.status !== 'done' || result.config_hash !== config_hash) return null;
  return { runId: run_id, status: result.status, note: result.note };
}

/** Reads the run from the sweep's plan, which another process may have replaced from a different sweep file of this name. */
function plannedRun(sweepFolder: string, runId: string, configHash: string): PlannedRun {
  const { runs } = readPlan(sweepFolder);
  const run = runs.find(({ run_id, config_hash }) => run_id === runId && config_hash === configHash);
  if (run !== undefined) return run;
  throw new InputError(
    `the plan in ${sweepFolder} has changed since this run was planned: make sure that all processes of the sweep use the same sweep file, then start it again`,
  );
}

/** Returns the result of an action. If it throws, reports the error to the parent with this status, then rethrows it. */
async function reportingErrors<T>(
  act: () => T,
  runId: string,
  status: RunStatus,
  stop: StopRequest,
): Promise<T> {
  try {
    return act();
  } catch (error) {
    await reportEnd({ runId, status, note: messageOf(error) }, stop);
    throw error;
  }
}

/** Sends the end of the run to the parent and closes the channel, which would keep this process alive. */
async function reportEnd(end: RunEnd, stop: StopRequest): Promise<void> {
  await sendToParent({ type: 'finished', ...end });
  stop.close();
  if (process.connected) process.disconnect();
}

/** Writes the run's result after an error. */
function recordFailure(folder: string, run: PlannedRun, error: unknown): RunEnd {
  const status: RunStatus = error instanceof DeviceMemoryError ? 'out-of-memory' : 'failed';
  const note = diskNote(folder, run, error) ?? messageOf(error);
  try {
    writeResult(folder, { ...planRow(run), status, note });
  } catch {
    // The folder cannot be written: the parent still receives the end.
  }
  return { runId: run.run_id, status, note, ...(error instanceof DeviceError && { isOfDevice: true }) };
}

/** The note for a full disk, with sizes and what to do; null for other errors. */
function diskNote(folder: string, run: PlannedRun, error: unknown): string | null {
  const hasSizes = error instanceof DiskFullError;
  if (!hasSizes && !isDiskFull((error as NodeJS.ErrnoException).code)) return null;
  const sizes = `: a checkpoint needs ${bytes(checkpointBytes(run.params_total))}, but only ${bytes(freeDiskBytes(folder))} are free`;
  return `${messageOf(error)}${hasSizes ? '' : sizes}; free disk space and start the sweep again: the run resumes from its last checkpoint`;
}
