/** `mod train-run`: the process in which a sweep trains one run. Not for people: `mod sweep --only` is. */
import { chooseBackend, describeBackend } from '../backends/choose.js';
import { InputError, messageOf } from '../errors.js';
import type { BackendName, PlannedRun, Precision } from '../plan/run.js';
import { makeResultsFolder } from '../results/atomic.js';
import { acquireLock, type Lock } from '../results/lock.js';
import { planRow, runFiles, writeResult } from '../results/run-folder.js';
import { readPlan, runFolder } from '../results/sweep-folder.js';
import { type RunEnd, tellParent } from '../sweep/messages.js';
import { trainRun } from '../sweep/train-run.js';

/** Milliseconds since 1970 that no change of the system's clock moves, to the microsecond. */
const clock = () => performance.timeOrigin + performance.now();

/**
 * Trains one run of a sweep's plan, under the run's lock. What goes wrong in it becomes the run's result.
 *
 * @throws TryLaterError if another process holds the run
 */
export async function trainRunCommand(
  sweepFolder: string,
  runId: string,
  { backend, precision }: { backend: BackendName | 'auto'; precision: Precision },
  out: (text: string) => void,
): Promise<RunEnd> {
  const plan = readPlan(sweepFolder);
  const run = plan.runs.find((candidate) => candidate.run_id === runId);
  if (run === undefined) throw new InputError(`${sweepFolder}: its plan has no run ${runId}`);
  const folder = runFolder(sweepFolder, runId);
  makeResultsFolder(folder);
  // The channel ends with the parent: without it nobody takes note of the run.
  process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  const lock = await acquireRunLock(folder, runId);
  const log = (line: string) => out(`${new Date().toISOString()} ${line}`);
  let end: RunEnd;
  try {
    const chosen = await chooseBackend(backend, precision, run.spec.training.deterministic);
    log(describeBackend(chosen));
    const options = { run, folder, baseDir: plan.base_dir, tell: tellParent, log, now: clock };
    end = await trainRun({ ...options, backend: chosen });
  } catch (error) {
    if (error instanceof Error) log(error.stack ?? error.message);
    end = failed(folder, run, messageOf(error));
  }
  log(`${end.status}${end.note === null ? '' : `: ${end.note}`}`);
  lock.release();
  await farewell(end);
  return end;
}

async function acquireRunLock(folder: string, runId: string): Promise<Lock> {
  try {
    return acquireLock(runFiles(folder).lock, `mod training ${runId}`);
  } catch (error) {
    await farewell({ runId, status: 'running', note: messageOf(error) });
    throw error;
  }
}

/** The last word to the parent, and the end of the channel that keeps this process alive. */
async function farewell(end: RunEnd): Promise<void> {
  await tellParent({ type: 'finished', ...end });
  process.removeAllListeners('disconnect');
  if (process.connected) process.disconnect();
}

function failed(folder: string, run: PlannedRun, note: string): RunEnd {
  try {
    writeResult(folder, { ...planRow(run), status: 'failed', note });
  } catch {
    // The folder takes no more files: the parent still hears of it.
  }
  return { runId: run.run_id, status: 'failed', note };
}
