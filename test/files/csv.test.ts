/** CSV: columns in order, empty cells for null, numbers that other programs read, round trips of any text. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { formatCsv, formatCsvLine, readCsv, writeCsv } from '../../src/files/csv.js';

const TABLE = {
  name: { type: 'text' },
  size: { type: 'number' },
  kind: { type: 'a kind' },
  loss: { type: 'number', optional: true },
} as const;

interface Row {
  name: string | null;
  size: number | null;
  kind: string | null;
  loss: number | null;
}

let folder: string;
let path: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mod-csv-'));
  path = join(folder, 'a.csv');
});
afterAll(() => rmSync(folder, { recursive: true }));

it('prints numbers as JavaScript does, from 2^63 on with an exponent, null as an empty cell', () => {
  const rows = [
    { name: 'a', size: 6e18, kind: null, loss: 0.1 + 0.2 },
    { name: 'b', size: 1e20, loss: 0 },
    { name: '100000000000000000000', size: -(2 ** 63), loss: 2 ** 63 - 1024 },
  ];
  const text =
    'name,size,kind,loss\na,6000000000000000000,,0.30000000000000004\nb,1e+20,,0\n100000000000000000000,-9.223372036854776e+18,,9223372036854775000\n';
  expect(formatCsv(TABLE, rows)).toBe(text);
  const lines = rows.map((row) => formatCsvLine(TABLE, row));
  expect(formatCsv(TABLE, []) + lines.join('')).toBe(text);
});

it('round-trips any row', () => {
  const text = fc.option(fc.string({ unit: 'binary', minLength: 1 }));
  const number = fc.option(fc.double().map((value) => value + 0)); // no -0: it is printed as 0
  const row = fc.record({ name: text, size: number, kind: text, loss: number });
  fc.assert(
    fc.property(fc.array(row, { maxLength: 4 }), (rows) => {
      writeCsv(path, TABLE, rows);
      expect(readCsv<Row>(path, TABLE)).toEqual(rows.map((row) => ({ ...row })));
    }),
    { numRuns: 200 },
  );
});

it('reads files saved by spreadsheets: CRLF, extra columns, another order, no optional columns', () => {
  writeFileSync(path, '\ufeffmore,kind,size,name\r\nx,y,20,1\r\n');
  expect(readCsv<Row>(path, TABLE)).toEqual([{ name: '1', size: 20, kind: 'y', loss: null }]);
});

it.each([
  ['name,size,kind\na,x,b\n', /a\.csv:2: size: 'x' is not a number/],
  ['name,size\na,1\n', /the column kind is missing/],
  ['name,size,kind\na,1\n', /cannot be read as CSV/],
])('rejects %j', (content, message) => {
  writeFileSync(path, content);
  expect(() => readCsv<Row>(path, TABLE)).toThrow(InputError);
  expect(() => readCsv<Row>(path, TABLE)).toThrow(message);
});

it('does not rewrite a file with the same rows', () => {
  writeCsv(path, TABLE, [{ name: 'a' }]);
  const before = readFileSync(path, 'utf8');
  writeCsv(path, TABLE, [{ name: 'a', size: null }]);
  expect(readFileSync(path, 'utf8')).toBe(before);
});
