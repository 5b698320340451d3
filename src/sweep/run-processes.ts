/** The training processes of a sweep: one a run, their messages, their ends, and the signals that stop them all. */
import { type ChildProcess, fork } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { BackendChoice } from '../backends/choose.js';
import { threadEnvironment } from '../backends/tensorflow/threads.js';
import type { PlannedRun } from '../plan/run.js';
import { makeResultsFolder } from '../results/atomic.js';
import { planRow, runFiles, writeResult } from '../results/run-folder.js';
import { runFolder } from '../results/sweep-folder.js';
import type { RunEnd, RunMessage } from './messages.js';

const STOP_SIGNALS: NodeJS.Signals[] = ['SIGINT', 'SIGTERM'];

export class RunProcesses {
  /** The signal that asked to stop, once one has. */
  stoppedBy: NodeJS.Signals | null = null;
  private readonly children = new Set<ChildProcess>();

  /**
   * From here on SIGINT and SIGTERM stop the processes first; a second one has its usual effect on this one.
   *
   * @param threads that each process may compute with, where its backend has threads
   */
  constructor(
    private readonly program: string,
    private readonly sweepFolder: string,
    private readonly threads: number,
    private readonly onMessage: (message: RunMessage) => void,
  ) {
    for (const signal of STOP_SIGNALS) process.on(signal, this.stop);
  }

  /** Trains a run to its end, whatever it is. A process that ends without a word has failed, and its row says so. */
  async train(run: PlannedRun, backend: BackendChoice): Promise<RunEnd> {
    const folder = runFolder(this.sweepFolder, run.run_id);
    makeResultsFolder(folder);
    const { child, end } = this.start(run, folder, backend);
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
    for (const signal of STOP_SIGNALS) process.off(signal, this.stop);
  }

  private readonly stop = (signal: NodeJS.Signals): void => {
    this.stoppedBy = signal;
    this.close();
    for (const child of this.children) child.kill(signal);
  };

  private start(run: PlannedRun, folder: string, { name, precision }: BackendChoice) {
    const log = openSync(runFiles(folder).log, 'a');
    const args = ['train-run', this.sweepFolder, run.run_id, '--backend', name, '--precision', precision];
    const env = { ...process.env, ...threadEnvironment(this.threads) };
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
    writeResult(folder, { ...planRow(run), status: failed.status, note: failed.note });
    return failed;
  }
}
