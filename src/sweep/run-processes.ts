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
import { STOP_SIGNALS, type StopMessage, type StopReason } from '../run/stop-request.js';
import { gpuEnvironment } from './jobs.js';

export class RunProcesses {
  /** Why the processes were stopped; null if they were not. */
  stoppedBy: StopReason | null = null;
  private readonly children = new Set<ChildProcess>();

  /**
   * Handles SIGINT and SIGTERM until closed: the first stops the training processes, a second one ends this process.
   *
   * @param baseDir the sweep file's folder
   * @param threads threads per process, for backends with threads
   * @param gpus names for CUDA_VISIBLE_DEVICES of the GPUs that the processes share
   */
  constructor(
    private readonly program: string,
    private readonly sweepFolder: string,
    private readonly baseDir: string,
    private readonly threads: number,
    private readonly gpus: readonly string[],
    private readonly onMessage: (message: RunMessage) => void,
  ) {
    for (const signal of STOP_SIGNALS) process.on(signal, this.onSignal);
  }

  /**
   * Trains a run in a child process and returns its end. If the process ends without a report, the run has failed.
   *
   * @param slot the run's index among those that train in parallel, which selects its GPU
   */
  async train(run: PlannedRun, backend: BackendChoice, slot: number): Promise<RunEnd> {
    const folder = runFolder(this.sweepFolder, run.run_id);
    makeResultsFolder(folder);
    const { child, end } = this.start(run, folder, backend, slot);
    this.children.add(child);
    try {
      const { finished, code, signal } = await end;
      if (finished !== null) return finished;
      return this.endWithoutReport(run, folder, code, signal);
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
    this.close();
    this.stop(signal as StopReason);
  };

  private start(run: PlannedRun, folder: string, { name, precision }: BackendChoice, slot: number) {
    const log = openSync(runFiles(folder).log, 'a');
    // Another process may replace the plan on disk before the child reads it: the hash detects this.
    const runArgs = ['--config-hash', run.config_hash, '--base-dir', this.baseDir];
    const backendArgs = ['--backend', name, '--precision', precision];
    const args = ['train-run', this.sweepFolder, run.run_id, ...runArgs, ...backendArgs];
    const env = {
      ...process.env,
      ...threadEnvironment(this.threads),
      ...gpuEnvironment(slot, this.gpus),
    };
    const child = fork(this.program, args, { stdio: ['ignore', log, log, 'ipc'], env });
    closeSync(log);
    type End = { finished: RunEnd | null; code: number | null; signal: NodeJS.Signals | null };
    const end = new Promise<End>((resolve) => {
      let finished: RunEnd | null = null;
      child.on('message', (message: RunMessage) => {
        if (message.type === 'finished') finished = message;
        else this.onMessage(message);
      });
      child.on('error', () => resolve({ finished, code: null, signal: null }));
      child.on('close', (code, signal) => resolve({ finished, code, signal }));
    });
    return { child, end };
  }

  private endWithoutReport(
    run: PlannedRun,
    folder: string,
    code: number | null,
    signal: NodeJS.Signals | null,
  ): RunEnd {
    const end = (status: RunEnd['status'], note: string): RunEnd => ({ runId: run.run_id, status, note });
    if (this.stoppedBy !== null) return end('interrupted', `stopped by ${this.stoppedBy}`);
    const why =
      signal === 'SIGKILL'
        ? 'was killed by SIGKILL, possibly because the system ran out of memory'
        : signal === null
          ? `ended with exit code ${code}`
          : `was killed by ${signal}`;
    const failed = end('failed', `its process ${why}; see ${runFiles(folder).log}`);
    try {
      writeResult(folder, { ...planRow(run), status: failed.status, note: failed.note });
    } catch {
      // The folder cannot be written: the sweep still receives the end.
    }
    return failed;
  }
}
