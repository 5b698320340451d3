/** `on_finish`: tells a program of the user's how a sweep has ended. */
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import type { SweepFile } from '../config/sweep-file.js';
import { messageOf } from '../errors.js';
import type { RunRow } from '../results/columns.js';
import { sweepFiles } from '../results/sweep-folder.js';
import type { SweepOutcome } from './sweep.js';

/** What the program reads from its standard input, as one line of JSON. */
export interface SweepSummary {
  sweep: string;
  /** `failed`: a person must look. `unfinished`: to be started again. */
  status: 'done' | 'failed' | 'unfinished';
  /** Runs of the sweep by status. */
  runs: Record<string, number>;
  /** Runs that this call has trained. */
  trained: { run_id: string; status: string; note: string | null }[];
  failed: { run_id: string; status: string; note: string | null }[];
  /** Absolute. */
  runs_csv: string;
  finished_at: string;
}

export function summaryOf(name: string, outcome: SweepOutcome, rows: readonly RunRow[]): SweepSummary {
  const { folder, failed, unfinished, stoppedBy, trained } = outcome;
  const runs: Record<string, number> = {};
  for (const { status } of rows) runs[status] = (runs[status] ?? 0) + 1;
  const named = (ends: typeof failed) =>
    ends.map(({ runId, status, note }) => ({ run_id: runId, status, note }));
  const isOpen = stoppedBy !== null || unfinished.length > 0;
  return {
    sweep: name,
    status: failed.length > 0 ? 'failed' : isOpen ? 'unfinished' : 'done',
    runs,
    trained: named(trained),
    failed: named(failed),
    runs_csv: resolve(sweepFiles(folder).runs),
    finished_at: new Date().toISOString(),
  };
}

/**
 * Runs the program in the sweep file's folder, without a shell: its arguments are what the file says, whatever they hold.
 * Its output goes where this process' goes.
 *
 * @returns null, or what went wrong
 */
export function tellFinished({ onFinish, dir }: SweepFile, summary: SweepSummary): Promise<string | null> {
  const [program, ...args] = onFinish ?? [];
  if (program === undefined) return Promise.resolve(null);
  return new Promise((settle) => {
    const child = spawn(program, args, { cwd: dir, shell: false, stdio: ['pipe', 'inherit', 'inherit'] });
    child.on('error', (error) => settle(`on_finish: ${program}: ${messageOf(error)}`));
    child.on('close', (code, signal) =>
      settle(code === 0 ? null : `on_finish: ${program}: ended by ${signal ?? `exit code ${code}`}`),
    );
    child.stdin.on('error', () => undefined); // it need not read
    child.stdin.end(`${JSON.stringify(summary)}\n`);
  });
}
