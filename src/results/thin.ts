/**
 * `mod thin`: makes a run that has ended small enough for git: reduces steps.csv to as many rows as a figure draws, and the
 * losses by document to as many as a standard error needs.
 */
import { writeCsv } from '../files/csv.js';
import { isLocked } from '../files/lock.js';
import { mean } from '../statistics.js';
import { type RunRow, STEP_TABLE, type StepRow } from './columns.js';
import { readHeldoutLosses, withRows, writeHeldoutLosses } from './heldout-losses.js';
import { readResult, runFiles, writeResult } from './run-folder.js';
import { hasEnded } from './run-status.js';
import { formatLoad, readSteps, stepTimes, tenthOf } from './steps.js';

/** Rows that a curve is drawn from. More cannot be distinguished in a figure. */
export const CURVE_ROWS = 48;

/** Rows of heldout-losses.csv, each several adjacent documents: a standard error from 128 clusters is within 6% of its own. */
const LOSS_ROWS = 128;

/** Significant digits of the columns that reports do not average. */
const DIGITS = 6;

/** Number of rows of steps.csv before and after thinning. */
export interface Thinned {
  before: number;
  after: number;
}

/**
 * Thins the steps.csv of a run that has ended and will not be resumed; null for any other run. Quartiles of the step time,
 * which runs of older versions lack, are taken from the rows and put into result.json first.
 */
export function thinRun(folder: string): Thinned | null {
  const result = readResult(folder);
  if (result === null || !hasEnded(result.status)) return null;
  const { steps: path, lock } = runFiles(folder);
  if (isLocked(lock)) return null;
  const losses = readHeldoutLosses(folder);
  if (losses !== null) writeHeldoutLosses(folder, withRows(losses, LOSS_ROWS));
  const rows = readSteps(path);
  if (result.step_ms_q1 == null) writeResult(folder, { ...result, ...quartilesOf(rows) });
  const thinned = thinSteps(rows);
  if (thinned === rows) return { before: rows.length, after: rows.length };
  writeCsv(path, STEP_TABLE, thinned);
  return { before: rows.length, after: thinned.length };
}

/**
 * Means over `CURVE_ROWS` parts of equal length. A held-out loss and a loss that is not finite end a row, as in a run's own
 * steps.csv, so that they keep their step. Rows that are few enough, or have been thinned, are returned as they are.
 */
export function thinSteps(rows: readonly StepRow[]): readonly StepRow[] {
  if (rows.filter((row) => !isMark(row)).length <= CURVE_ROWS) return rows;
  return equalParts(rows, CURVE_ROWS).flatMap((part) => splitAtMarks(part).map(meanRow));
}

/** At most `count` consecutive parts, whose lengths differ by at most one. */
export function equalParts<T>(items: readonly T[], count: number): T[][] {
  const parts = Math.min(count, items.length);
  const bound = (i: number) => Math.round((i * items.length) / parts);
  return Array.from({ length: parts }, (_, i) => items.slice(bound(i), bound(i + 1)));
}

const isMark = ({ heldout_loss, loss }: StepRow) => heldout_loss !== null || !Number.isFinite(loss);

/** Parts that end at each mark. */
function splitAtMarks(rows: readonly StepRow[]): StepRow[][] {
  const parts: StepRow[][] = [];
  let isOpen = false;
  for (const row of rows) {
    if (isOpen) parts.at(-1)?.push(row);
    else parts.push([row]);
    isOpen = !isMark(row);
  }
  return parts;
}

function meanRow(rows: readonly StepRow[]): StepRow {
  const last = rows.at(-1) as StepRow;
  const meanOf = (values: (number | null | undefined)[]) => {
    const known = values.filter((value) => value != null);
    return known.length === 0 ? null : mean(known);
  };
  return {
    step: last.step,
    tokens: last.tokens,
    // Unrounded, so that the report's means over these rows equal those over the original rows.
    loss: mean(rows.map(({ loss }) => loss)),
    heldout_loss: last.heldout_loss,
    learning_rate: rounded(last.learning_rate),
    grad_norm: rounded(last.grad_norm),
    predictor_accuracy: meanOf(rows.map(({ predictor_accuracy }) => predictor_accuracy)),
    step_ms: rounded(mean(rows.map(({ step_ms }) => step_ms))),
    expert_load: meanLoad(rows.flatMap(({ expert_load }) => expert_load ?? [])),
    expert_dropped: meanOf(rows.map(({ expert_dropped }) => expert_dropped)),
    expert_no_op: meanOf(rows.map(({ expert_no_op }) => expert_no_op)),
  };
}

const rounded = (value: number) => Number(value.toPrecision(DIGITS));

/** Lists of shares that are separated by spaces, averaged position by position; null for no list. */
function meanLoad(loads: readonly string[]): string | null {
  const shares = loads.map((load) => load.split(' ').map(Number));
  const [first] = shares;
  if (first === undefined) return null;
  return formatLoad(first.map((_, i) => mean(shares.map((load) => load[i] as number))));
}

/** Over the rows after the first tenth of the steps; quartiles of means if a row represents several steps. */
function quartilesOf(rows: readonly StepRow[]): Pick<RunRow, 'step_ms_q1' | 'step_ms_q3'> {
  const warmUp = tenthOf(rows.at(-1)?.step ?? 0);
  const timed = rows.filter(({ step }) => step > warmUp);
  const { step_ms_q1, step_ms_q3 } = stepTimes(timed.map(({ step_ms }) => step_ms));
  return { step_ms_q1, step_ms_q3 };
}
