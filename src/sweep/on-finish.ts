/** `on_finish`: runs the user's program at the end of a sweep, with a summary on its standard input. */

import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import type { SweepFile } from '../config/sweep-file.js';
import { messageOf } from '../errors.js';
import { jsonText } from '../files/numbers.js';
import type { RunRow } from '../results/columns.js';
import { sweepFiles } from '../results/sweep-folder.js';
import type { SweepOutcome } from './sweep.js';

/** The program's standard input, as one line of JSON. */
export interface SweepSummary {
  sweep: string;
  /** `failed`: a run needs attention. `unfinished`: start the sweep again. */
  status: 'done' | 'failed' | 'unfinished';
  /** Number of runs of the sweep by status. */
  runs: Record<string, number>;
  /** Runs trained by this call. */
  trained: { run_id: string; status: string; note: string | null }[];
  failed: { run_id: string; status: string; note: string | null }[];
  /** Absolute path. */
  runs_csv: string;
  finished_at: string;
}

export function summaryOf(name: string, outcome: SweepOutcome, rows: readonly RunRow[]): SweepSummary {
  const { folder, failed, unfinished, stoppedBy, trained } = outcome;
  const runs: Record<string, number> = {};
  for (const { status } of rows) runs[status] = (runs[status] ?? 0) + 1;
  const named = (ends: typeof failed) =>
    ends.map(({ runId, status, note }) => ({ run_id: runId, status, note }));
  const isUnfinished = stoppedBy !== null || unfinished.length > 0;
  return {
    sweep: name,
    status: failed.length > 0 ? 'failed' : isUnfinished ? 'unfinished' : 'done',
    runs,
    trained: named(trained),
    failed: named(failed),
    runs_csv: resolve(sweepFiles(folder).runs),
    finished_at: new Date().toISOString(),
  };
}

/**
 * Runs the program in the sweep file's folder, without a shell: arguments are passed unchanged. It inherits the output of
 * this process.
 *
 * @returns null, or an error message
 */
export function runOnFinish({ onFinish, dir }: SweepFile, summary: SweepSummary): Promise<string | null> {
  const [program, ...args] = onFinish ?? [];
  if (program === undefined) return Promise.resolve(null);
  return new Promise((settle) => {
    const child = spawn(program, args, { cwd: dir, shell: false, stdio: ['pipe', 'inherit', 'inherit'] });
    child.on('error', (error) => settle(`on_finish: ${program}: ${messageOf(error)}`));
    child.on('close', (code, signal) =>
      settle(
        code === 0
          ? null
          : `on_finish: ${program}: ${signal === null ? `exit code ${code}` : `killed by ${signal}`}`,
      ),
    );
    child.stdin.on('error', () => undefined); // the program may ignore its input
    child.stdin.end(`${jsonText(summary)}\n`);
  });
}
