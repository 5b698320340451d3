/** Writes runs.csv and eval.csv of a sweep from its plan and run folders, always the whole tables. */
import { accessSync, constants, existsSync } from 'node:fs';
import { TryLaterError } from '../errors.js';
import { isDiskFull } from '../files/atomic.js';
import { readCsv, writeCsv } from '../files/csv.js';
import type { PlannedRun } from '../plan/run.js';
import { EVAL_TABLE, RUN_TABLE, type RunRow } from './columns.js';
import { currentRow, readEvaluations } from './run-folder.js';
import { lockTables, runFolder, sweepFiles } from './sweep-folder.js';

/** The current rows of runs.csv, from the run folders, in the plan's order. */
export function currentRows(folder: string, runs: readonly PlannedRun[]): RunRow[] {
  return runs.map((run) => currentRow(runFolder(folder, run.run_id), run));
}

/**
 * Writes both tables and returns the rows of runs.csv, under a lock: of two concurrent processes, on any machines, the one
 * that reads first could write last, and a run that has ended would be missing.
 *
 * @throws TryLaterError if another process holds that lock for 30 s
 */
export function writeTables(folder: string, runs: readonly PlannedRun[]): RunRow[] {
  const { runs: runsCsv, evaluations } = sweepFiles(folder);
  const lock = lockTables(folder, 'mod writing tables');
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
 * Writes both tables for a command that only reads. Skipped if the folder is read-only, the disk is full, or runs.csv has
 * started runs whose folders are missing: then only the tables were copied to this machine.
 */
export function refreshTables(folder: string, runs: readonly PlannedRun[]): void {
  if (!isWritable(folder) || hasRunsElsewhere(folder)) return;
  try {
    writeTables(folder, runs);
  } catch (error) {
    const isFull = isDiskFull((error as NodeJS.ErrnoException).code);
    if (!isFull && !(error instanceof TryLaterError)) throw error;
  }
}

function hasRunsElsewhere(folder: string): boolean {
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
