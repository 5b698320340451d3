/** runs.csv and eval.csv of a sweep, made whole from the plan and the run folders by whoever looks. */
import { accessSync, constants, existsSync } from 'node:fs';
import { TryLaterError } from '../errors.js';
import { isDiskFull } from '../files/atomic.js';
import { readCsv, writeCsv } from '../files/csv.js';
import type { PlannedRun } from '../plan/run.js';
import { EVAL_TABLE, RUN_TABLE, type RunRow } from './columns.js';
import { currentRow, readEvaluations } from './run-folder.js';
import { lockTables, runFolder, sweepFiles } from './sweep-folder.js';

/** The rows of runs.csv as the run folders have them now, in the plan's order. */
export function currentRows(folder: string, runs: readonly PlannedRun[]): RunRow[] {
  return runs.map((run) => currentRow(runFolder(folder, run.run_id), run));
}

/**
 * Makes both tables, and tells what is in the first. One process at a time, from reading the run folders to the last
 * rename, on whatever machine: of two side by side the one that read earlier could write last, and a run that has ended
 * would be missing.
 *
 * @throws TryLaterError if another process does nothing else for half a minute
 */
export function writeTables(folder: string, runs: readonly PlannedRun[]): RunRow[] {
  const { runs: runsCsv, evaluations } = sweepFiles(folder);
  const lock = lockTables(folder, 'mod making tables');
  try {
    const rows = currentRows(folder, runs);
    writeCsv(runsCsv, RUN_TABLE, rows);
    const evaluated = runs.flatMap((run) => readEvaluations(runFolder(folder, run.run_id)));
    writeCsv(evaluations, EVAL_TABLE, evaluated);
    return rows;
  } finally {
    lock.release();
  }
}

/**
 * Makes both tables for somebody who only looks: not in a folder that takes no files, nor on a disk that is full, nor
 * where runs.csv tells of runs whose folders are not here, since then the tables alone were copied.
 */
export function refreshTables(folder: string, runs: readonly PlannedRun[]): void {
  if (!isWritable(folder) || knowsMore(folder)) return;
  try {
    writeTables(folder, runs);
  } catch (error) {
    const isFull = isDiskFull((error as NodeJS.ErrnoException).code);
    if (!isFull && !(error instanceof TryLaterError)) throw error;
  }
}

function knowsMore(folder: string): boolean {
  const { runs } = sweepFiles(folder);
  if (!existsSync(runs)) return false;
  return readCsv<RunRow>(runs, RUN_TABLE).some(
    ({ run_id, started_at }) => started_at !== null && !existsSync(runFolder(folder, run_id)),
  );
}

function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
