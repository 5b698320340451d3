/** steps.csv of a run: training appends lines; when a run resumes, the lines after its checkpoint's step are removed. */
import { closeSync, existsSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { writeAll, writeFileAtomic } from '../files/atomic.js';
import { formatCsv, formatCsvLine, parseCsv, readTable } from '../files/csv.js';
import { median, quantile } from '../statistics.js';
import { type RunRow, STEP_TABLE, type StepRow } from './columns.js';

/** Appends one line, after the header if the file is new. */
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
 * Keeps the lines up to and including a step, byte for byte; step 0 keeps only the header. Also removes an incomplete last
 * line, which a crash may leave.
 */
export function truncateSteps(path: string, step: number): void {
  if (!existsSync(path)) return;
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  const head = formatCsv(STEP_TABLE, []);
  const kept = lines.slice(1).filter((line) => Number(line.slice(0, line.indexOf(','))) <= step);
  writeFileAtomic(path, head, kept.map((line) => `${line}\n`).join(''));
}

/**
 * All complete rows; an empty list before the first. Text after the last line end is ignored: it is being written, or was
 * cut short by a crash or a full disk.
 */
export function readSteps(path: string): StepRow[] {
  if (!existsSync(path)) return [];
  const text = readTable(path);
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  return whole === '' ? [] : parseCsv<StepRow>(path, whole, STEP_TABLE);
}

/** Steps in a tenth of a run. Its step time excludes the first tenth; its training loss is the mean over the last tenth. */
export const tenthOf = (steps: number): number => Math.max(1, Math.floor(steps / 10));

/** Median and quartiles of step times in ms; null for no times. */
export function stepTimes(times: readonly number[]): Pick<RunRow, 'step_ms' | 'step_ms_q1' | 'step_ms_q3'> {
  if (times.length === 0) return { step_ms: null, step_ms_q1: null, step_ms_q3: null };
  return { step_ms: median(times), step_ms_q1: quantile(times, 0.25), step_ms_q3: quantile(times, 0.75) };
}

/** Digits of a share in the list of loads. */
const LOAD_DIGITS = 4;

/** The column `expert_load`: shares separated by spaces. */
export const formatLoad = (load: readonly number[]): string =>
  load.map((share) => share.toFixed(LOAD_DIGITS)).join(' ');
