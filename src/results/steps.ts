/** steps.csv of a run: a line appended at each interval of training, cut back to a step when training goes on from there. */
import { closeSync, existsSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { writeAll, writeFileAtomic } from '../files/atomic.js';
import { formatCsv, formatCsvLine, parseCsv, readTable } from '../files/csv.js';
import { STEP_TABLE, type StepRow } from './columns.js';

/** Appends one line, after the head if the file is new. */
export function appendStep(path: string, row: StepRow): void {
  const file = openSync(path, 'a');
  try {
    const isNew = fstatSync(file).size === 0;
    writeAll(file, Buffer.from(isNew ? formatCsv(STEP_TABLE, [row]) : formatCsvLine(STEP_TABLE, row)));
  } finally {
    closeSync(file);
  }
}

/**
 * Leaves the lines up to and including a step, byte for byte; 0 leaves the head alone. A last line without its end is
 * what a crash left of one, and goes too.
 */
export function cutSteps(path: string, step: number): void {
  if (!existsSync(path)) return;
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  const head = formatCsv(STEP_TABLE, []);
  const kept = lines.slice(1).filter((line) => Number(line.slice(0, line.indexOf(','))) <= step);
  writeFileAtomic(path, head, kept.map((line) => `${line}\n`).join(''));
}

/**
 * All lines that have their end; none where the run has not come to its first. What follows the last line end is being
 * written, or is what a crash or a full disk left of a line.
 */
export function readSteps(path: string): StepRow[] {
  if (!existsSync(path)) return [];
  const text = readTable(path);
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  return whole === '' ? [] : parseCsv<StepRow>(path, whole, STEP_TABLE);
}
