/** The training processes of a sweep, one per run: starts them, receives their messages, and stops them on a signal. */
import { type ChildProcess, fork } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { BackendChoice } from '../backends/choose.js';
import { threadEnvironment } from '../backends/tensorflow/threads.js';
import { makeResultsFolder } from '../files/atomic.js';
import type { PlannedRun } from '../plan/run.js';
import { planRow, runFiles, writeResult } from '../results/run-folder.js';
import { runFolder } from '../results/sweep-folder.js';
import type { RunEnd, RunMessage } from '../run/messages.js';
import {
  endsAtOnce,
  STOP_SIGNALS,
  type StopMessage,
  type StopReason,
  type StopSignal,
} from '../run/stop-request.js';
import { TIME_LIMITS, type TimeLimits, Watchdog } from './watchdog.js';

/** Milliseconds between two looks at the progress of a run. */
const TICK = 1000;
/** Milliseconds in which a killed process ends; one that is in a call that hangs in the kernel does not. */
const LAST_BREATH = 10_000;

export class RunProcesses {
  /** Why the processes were stopped; null if they were not. */
  stoppedBy: StopReason | null = null;
  private readonly children = new Set<ChildProcess>();
  private isSignalled = false;

  /**
   * Handles SIGINT, SIGTERM and SIGHUP until closed: the first stops the training processes, a second SIGINT or SIGTERM ends
   * this process.
   *
   * @param baseDir the sweep file's folder
   * @param threads threads per process, for backends with threads
   */
  constructor(
    private readonly program: string,
    private readonly sweepFolder: string,
    private readonly baseDir: string,
    private readonly threads: number,
    private readonly onMessage: (message: RunMessage) => void,
    private readonly limits: TimeLimits = TIME_LIMITS,
  ) {
    for (const signal of STOP_SIGNALS) process.on(signal, this.onSignal);
  }

  /**
   * Trains a run in a child process and returns its end. If the process ends without a report, the run has failed. A process
   * without progress is killed: see watchdog.ts.
   *
   * @param gpu environment that selects its GPU
   */
  async train(run: PlannedRun, backend: BackendChoice, gpu: Record<string, string>): Promise<RunEnd> {
    const folder = runFolder(this.sweepFolder, run.run_id);
    makeResultsFolder(folder);
    const { child, end } = this.start(run, folder, backend, gpu);
    this.children.add(child);
    try {
      const { finished, hung, code, signal } = await end;
      if (finished !== null) return finished;
      if (hung !== null) return this.failed(run, folder, `its process was ended: ${hung}`, true);
      if (this.stoppedBy !== null) {
        return { runId: run.run_id, status: 'interrupted', note: `stopped by ${this.stoppedBy}` };
      }
      return this.failed(run, folder, `its process ${deathOf(code, signal)}`, false);
    } finally {
      this.children.delete(child);
    }
  }

  close(): void {
    for (const signal of STOP_SIGNALS) process.off(signal, this.onSignal);
  }

  /** Requests all processes to save and stop. */
  stop(reason: StopReason): void {
    this.stoppedBy = reason;
    const message: StopMessage = { type: 'stop', reason };
    for (const child of this.children) if (child.connected) child.send(message, () => undefined);
  }

  private readonly onSignal = (signal: NodeJS.Signals): void => {
    if (endsAtOnce(signal as StopSignal)) {
      for (const other of STOP_SIGNALS) if (endsAtOnce(other)) process.off(other, this.onSignal);
    }
    if (!this.isSignalled) this.stop(signal as StopSignal);
    this.isSignalled = true;
  };

  private start(
    run: PlannedRun,
    folder: string,
    { name, precision }: BackendChoice,
    gpu: Record<string, string>,
  ) {
    const log = openSync(runFiles(folder).log, 'a');
    // Another process may replace the plan on disk before the child reads it: the hash detects this.
    const runArgs = ['--config-hash', run.config_hash, '--base-dir', this.baseDir];
    const backendArgs = ['--backend', name, '--precision', precision];
    const args = ['train-run', this.sweepFolder, run.run_id, ...runArgs, ...backendArgs];
    const env = { ...process.env, ...threadEnvironment(this.threads), ...gpu };
    const child = fork(this.program, args, { stdio: ['ignore', log, log, 'ipc'], env });
    closeSync(log);
    const watchdog = new Watchdog(run, name, this.limits);
    const end = new Promise<ProcessEnd>((resolve) => {
      let finished: RunEnd | null = null;
      let hung: string | null = null;
      let last = performance.now();
      const timer = setInterval(() => {
        const now = performance.now();
        hung = watchdog.tick(now - last);
        last = now;
        if (hung === null) return;
        clearInterval(timer);
        child.kill('SIGKILL');
        setTimeout(() => {
          if (child.connected) child.disconnect();
          child.unref();
          settle(null, null);
        }, LAST_BREATH).unref();
      }, TICK);
      const settle = (code: number | null, signal: NodeJS.Signals | null) => {
        clearInterval(timer);
        resolve({ finished, hung, code, signal });
      };
      child.on('message', (message: RunMessage) => {
        watchdog.progress(message);
        if (message.type === 'finished') finished = message;
        else this.onMessage(message);
      });
      child.on('error', () => settle(null, null));
      child.on('close', settle);
    });
    return { child, end };
  }

  /** Writes the result of a run whose process ended without a report. */
  private failed(run: PlannedRun, folder: string, why: string, isOfDevice: boolean): RunEnd {
    const status = 'failed';
    const note = `${why}; see ${runFiles(folder).log}`;
    try {
      writeResult(folder, { ...planRow(run), status, note });
    } catch {
      // The folder cannot be written: the sweep still receives the end.
    }
    return { runId: run.run_id, status, note, isOfDevice };
  }
}

interface ProcessEnd {
  /** What the process reported; null without a report. */
  finished: RunEnd | null;
  /** Why the process was killed; null if it was not. */
  hung: string | null;
  code: number | null;
  signal: NodeJS.Signals | null;
}

function deathOf(code: number | null, signal: NodeJS.Signals | null): string {
  if (signal === 'SIGKILL') return 'was killed by SIGKILL, possibly because the system ran out of memory';
  return signal === null ? `ended with exit code ${code}` : `was killed by ${signal}`;
}
