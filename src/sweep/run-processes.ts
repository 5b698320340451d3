/** The training processes of a sweep: one a run, their messages, their ends, and the signals that stop them all. */
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
  /** Who asked to stop, once somebody has. */
  stoppedBy: StopReason | null = null;
  private readonly children = new Set<ChildProcess>();

  /**
   * From here on SIGINT and SIGTERM stop the processes first; a second one has its usual effect on this one.
   *
   * @param baseDir the sweep file's folder
   * @param threads that each process may compute with, where its backend has threads
   * @param gpus what CUDA_VISIBLE_DEVICES calls those that the processes share
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
   * Trains a run to its end, whatever it is. A process that ends without a word has failed, and its row says so.
   *
   * @param slot its place among those that train side by side: where there are several GPUs, whose it is
   */
  async train(run: PlannedRun, backend: BackendChoice, slot: number): Promise<RunEnd> {
    const folder = runFolder(this.sweepFolder, run.run_id);
    makeResultsFolder(folder);
    const { child, end } = this.start(run, folder, backend, slot);
    this.children.add(child);
    try {
      const { finished, code, signal } = await end;
      if (finished !== null) return finished;
      return this.endedWithoutWord(run, folder, code, signal);
    } finally {
      this.children.delete(child);
    }
  }

  close(): void {
    for (const signal of STOP_SIGNALS) process.off(signal, this.onSignal);
  }

  /** Asks all processes to save and to end. */
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
    // The plan on the disk may be another's by the time that the process reads it.
    const planned = ['--config-hash', run.config_hash, '--base-dir', this.baseDir];
    const computed = ['--backend', name, '--precision', precision];
    const args = ['train-run', this.sweepFolder, run.run_id, ...planned, ...computed];
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

  private endedWithoutWord(
    run: PlannedRun,
    folder: string,
    code: number | null,
    signal: NodeJS.Signals | null,
  ): RunEnd {
    const end = (status: RunEnd['status'], note: string): RunEnd => ({ runId: run.run_id, status, note });
    if (this.stoppedBy !== null) return end('interrupted', `stopped by ${this.stoppedBy}`);
    const why =
      signal === 'SIGKILL'
        ? 'killed by SIGKILL, as the system does when memory runs out'
        : `ended by ${signal ?? `exit code ${code}`}`;
    const failed = end('failed', `its process was ${why}; see ${runFiles(folder).log}`);
    try {
      writeResult(folder, { ...planRow(run), status: failed.status, note: failed.note });
    } catch {
      // The folder takes no more files: the sweep still hears of it.
    }
    return failed;
  }
}
