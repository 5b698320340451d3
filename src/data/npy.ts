/** Reads the header of a NumPy array file (numpy/lib/format.py, versions 1 to 3): which integers it has, and where. */
import { InputError } from '../errors.js';
import { TOKEN_WIDTHS, type TokenWidth } from '../files/guess.js';
import { firstBytes } from './files.js';

const MAGIC = Buffer.from('\x93NUMPY', 'latin1');
/** More than any header of an array of numbers. */
const HEADER_BYTES = 2 ** 16;

export interface NpyArray {
  /** Position of the first number. */
  start: number;
  count: number;
  bytes: TokenWidth;
}

/** Whether a file begins as NumPy's array files do. @throws InputError if it cannot be read */
export function isNpy(path: string): boolean {
  return firstBytes(path, MAGIC.length).equals(MAGIC);
}

/**
 * The integers of an array in the order of its rows.
 *
 * @param size of the file in bytes
 * @throws InputError for a damaged file, or an array of other values
 */
export function npyArray(path: string, size: number): NpyArray {
  const head = firstBytes(path, HEADER_BYTES);
  const fail = (what: string): never => {
    throw new InputError(`${path}: ${what}`);
  };
  const isLong = (head[6] ?? 0) >= 2;
  const text = isLong ? 12 : 10;
  if (head.length < text) return fail('a truncated NumPy array; copy it again');
  const start = text + (isLong ? head.readUInt32LE(8) : head.readUInt16LE(8));
  const header = head.toString('latin1', text, start);
  const type = /'descr':\s*(\[|'[^']*')/.exec(header)?.[1];
  const shape = /'shape':\s*\(([\d,\s]*)\)/.exec(header)?.[1];
  if (start > head.length || type === undefined || shape === undefined) {
    return fail('a NumPy array with a damaged header');
  }
  const [, order, kind, width] = /^'([<>|=])([a-zA-Z])(\d*)/.exec(type) ?? [];
  const bytes = TOKEN_WIDTHS.find((each) => String(each) === width);
  if ((kind !== 'u' && kind !== 'i') || bytes === undefined) {
    const values =
      kind === 'f' ? 'floating-point numbers' : kind === 'O' ? 'pickled objects' : `type ${type}`;
    return fail(
      `a NumPy array of ${values}, not of token ids: save integers, for example with astype(numpy.uint16)`,
    );
  }
  if (order === '>')
    return fail("a big-endian NumPy array: save it little-endian, with astype('<u2') or astype('<u4')");
  const sides = shape
    .split(',')
    .filter((side) => side.trim() !== '')
    .map(Number);
  if (sides.length > 1 && /'fortran_order':\s*True/.test(header)) {
    return fail('a NumPy array in the order of columns: save it with numpy.ascontiguousarray');
  }
  const count = sides.reduce((product, side) => product * side, 1);
  if (count === 0) return fail('a NumPy array without numbers');
  const expected = start + count * bytes;
  if (size < expected) {
    return fail(
      `a truncated NumPy array: its header gives ${count} numbers, ${expected} bytes; the file has ${size}`,
    );
  }
  return { start, count, bytes };
}
