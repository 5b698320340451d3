/** Reads and writes CSV by a table of columns: numbers as `numberText` prints them, an empty cell for null. */
import { readFileSync } from 'node:fs';
import { parse } from 'csv-parse/sync';
import { stringify } from 'csv-stringify/sync';
import { InputError, messageOf } from '../errors.js';
import { writeTextIfChanged } from './atomic.js';
import { numberText } from './numbers.js';

export interface CsvColumn {
  /** Cells of type `number` are numbers; those of any other type are text. */
  readonly type: string;
  /** A file may lack the column, as in an older version: its cells are then null. */
  readonly optional?: true;
}

/** The columns of a table by name, in the order of the file. */
export type CsvTable<Name extends string> = Readonly<Record<Name, CsvColumn>>;

/** A cell that is absent from a row, or null, is empty. */
export type CsvCells<Name extends string> = Readonly<Partial<Record<Name, string | number | null>>>;

/** A table with a header line. Only the columns of the table are written. */
export function formatCsv<Name extends string>(
  table: CsvTable<Name>,
  rows: readonly CsvCells<Name>[],
): string {
  return formatLines([namesOf(table), ...rows.map((row) => cellsOf(table, row))]);
}

/** One line, for a table that already has its header. */
export function formatCsvLine<Name extends string>(table: CsvTable<Name>, row: CsvCells<Name>): string {
  return formatLines([cellsOf(table, row)]);
}

/** Writes a whole table by atomic rename; a file with the same content is left unchanged. */
export function writeCsv<Name extends string>(
  path: string,
  table: CsvTable<Name>,
  rows: readonly CsvCells<Name>[],
): void {
  writeTextIfChanged(path, formatCsv(table, rows));
}

/**
 * Reads a table that has at least these columns, in any order. Empty cells are null, and so are those of optional columns
 * that are missing.
 *
 * @throws InputError with the file and, for a cell that is not a number where one is expected, its line and column
 */
export function readCsv<Row extends object>(path: string, table: CsvTable<keyof Row & string>): Row[] {
  return parseCsv(path, readTable(path), table);
}

/** Like readCsv, from the text of the file or a part of it. */
export function parseCsv<Row extends object>(
  path: string,
  text: string,
  table: CsvTable<keyof Row & string>,
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
  const names = namesOf(table);
  const missing = names.find((name) => !head.includes(name) && !table[name].optional);
  if (missing !== undefined) throw new InputError(`${path}: the column ${missing} is missing`);
  return records.map(({ record, info }) => {
    const cells = names.map((name) => {
      const cell = record[name] ?? '';
      if (cell === '') return [name, null];
      if (table[name].type !== 'number') return [name, cell];
      const value = Number(cell);
      if (Number.isNaN(value) && cell !== 'NaN') {
        throw new InputError(`${path}:${info.lines}: ${name}: '${cell}' is not a number`);
      }
      return [name, value];
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

function namesOf<Name extends string>(table: CsvTable<Name>): Name[] {
  return Object.keys(table) as Name[];
}

function cellsOf<Name extends string>(
  table: CsvTable<Name>,
  row: CsvCells<Name>,
): (string | number | null)[] {
  return namesOf(table).map((name) => row[name] ?? null);
}

function formatLines(rows: readonly (readonly (string | number | null)[])[]): string {
  // Without quotes, a carriage return at the end of a cell would be read as part of the line end.
  return stringify(rows as (string | number | null)[][], {
    quoted_match: /\r/,
    cast: { number: numberText },
  });
}
