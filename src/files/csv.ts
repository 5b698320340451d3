/** Rows to CSV and back: numbers as JavaScript prints them, nothing where a value is unknown. */
import { readFileSync } from 'node:fs';
import { parse } from 'csv-parse/sync';
import { stringify } from 'csv-stringify/sync';
import { InputError, messageOf } from '../errors.js';
import { type Column, LATER_COLUMNS, TEXT_COLUMNS } from '../results/columns.js';
import { writeTextIfChanged } from './atomic.js';

/** A table with a head line. Cells that a row lacks are empty; what is in no column is left out. */
export function formatCsv<C extends Column>(
  columns: readonly C[],
  rows: readonly Partial<Record<C, string | number | null>>[],
): string {
  return formatLines([columns, ...rows.map((row) => columns.map((column) => row[column] ?? null))]);
}

/** One line of a table that has its head. */
export function formatCsvLine<C extends Column>(
  columns: readonly C[],
  row: Partial<Record<C, string | number | null>>,
): string {
  return formatLines([columns.map((column) => row[column] ?? null)]);
}

/** Writes a whole table by atomic rename, unless it is there already. */
export function writeCsv<C extends Column>(
  path: string,
  columns: readonly C[],
  rows: readonly Partial<Record<C, string | number | null>>[],
): void {
  writeTextIfChanged(path, formatCsv(columns, rows));
}

/**
 * Reads a table that has at least these columns, in any order; empty cells are null, and so are LATER_COLUMNS that it lacks.
 *
 * @throws InputError naming the file, and the line and column of a cell that is no number where one belongs
 */
export function readCsv<Row extends Partial<Record<Column, unknown>>>(
  path: string,
  columns: readonly (keyof Row & Column)[],
): Row[] {
  return parseCsv(path, readTable(path), columns);
}

/** The same of a text that has been read from there, or a part of it. */
export function parseCsv<Row extends Partial<Record<Column, unknown>>>(
  path: string,
  text: string,
  columns: readonly (keyof Row & Column)[],
): Row[] {
  let records: { record: Record<string, string>; info: { lines: number } }[];
  let head: string[] = [];
  try {
    records = parse(text, {
      bom: true,
      columns: (names: string[]) => {
        head = names;
        return names;
      },
      info: true,
      record_delimiter: ['\n', '\r\n'],
    }) as unknown as typeof records;
  } catch (error) {
    throw unreadable(path, error);
  }
  const missing = columns.find((column) => !head.includes(column) && !LATER_COLUMNS.has(column));
  if (missing !== undefined) throw new InputError(`${path}: the column ${missing} is missing`);
  return records.map(({ record, info }) => {
    const cells = columns.map((column) => {
      const cell = record[column] ?? '';
      if (cell === '') return [column, null];
      if (TEXT_COLUMNS.has(column)) return [column, cell];
      const value = Number(cell);
      if (Number.isNaN(value) && cell !== 'NaN') {
        throw new InputError(`${path}:${info.lines}: ${column}: '${cell}' is no number`);
      }
      return [column, value];
    });
    return Object.fromEntries(cells) as Row;
  });
}

/** The text of a table; InputError naming the file. */
export function readTable(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): InputError {
  return new InputError(`${path}: cannot be read as CSV: ${messageOf(error)}`);
}

function formatLines(rows: readonly (readonly (string | number | null)[])[]): string {
  // A carriage return at the end of a cell would be taken for half a line end.
  return stringify(rows as (string | number | null)[][], { quoted_match: /\r/ });
}
