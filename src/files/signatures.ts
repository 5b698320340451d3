/** Finds the format that the first bytes of a file name. */
import type { Category, Format, Row, Signature } from './formats.js';
import type { Ends } from './signature-checks.js';
import { ARCHIVE_ROWS } from './signatures-of-archives.js';
import { DATA_ROWS } from './signatures-of-data.js';
import { FILE_ROWS } from './signatures-of-files.js';

/** In the order in which they are tried: formats within a ZIP archive come before the archive. */
const ROWS: Record<Category, readonly Row[]> = { ...DATA_ROWS, ...FILE_ROWS, ...ARCHIVE_ROWS };

const SIGNATURES: readonly (Signature & { bytes: Buffer })[] = (Object.keys(ROWS) as Category[]).flatMap(
  (category) =>
    ROWS[category].map(([name, magic, more]) => {
      const bytes = Buffer.from(magic, 'latin1');
      return { name, magic, bytes, category, ...more };
    }),
);

/**
 * The format that the first bytes of a file name; null if none does.
 *
 * @param isText whether its bytes are printable text, as `statisticsOf` finds
 */
export function signatureOf(ends: Ends, isText: boolean): Format | null {
  const { head } = ends;
  const begins = (bytes: Buffer, at: number) =>
    bytes.length === 0 || (head[at] === bytes[0] && head.subarray(at, at + bytes.length).equals(bytes));
  const found = SIGNATURES.find(
    ({ bytes, at = [0], confirm, isText: mayBeText }) =>
      (mayBeText || !isText) && at.some((position) => begins(bytes, position)) && (confirm?.(ends) ?? true),
  );
  return found ?? null;
}
