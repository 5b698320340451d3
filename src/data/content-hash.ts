/** The content hash of a file: tells whether data are those of an earlier process, at the cost of a few reads. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { InputError, messageOf } from '../errors.js';
import type { DataFiles } from './config.js';
import { fileSize } from './segments.js';

/** Files up to this size are hashed whole. */
export const WHOLE_BYTES = 4 * 2 ** 20;
/** Larger files are hashed by this many pieces at equal distances; the first and the last bytes are among them. */
const PIECES = 16;
const PIECE_BYTES = 64 * 1024;
/** Hexadecimal digits: 64 bits, since the hash detects accidents and not attacks. */
const DIGITS = 16;

/**
 * The first 16 hexadecimal digits of a SHA-256: of the whole file up to 4 MiB, as `sha256sum` prints them; of a larger file of
 * its size and 16 pieces of 64 KiB. Another corpus, tokenizer or order of documents changes every piece; an edit that keeps the
 * size of a large file is detected only if it lies in a piece.
 *
 * @throws InputError if the file cannot be read
 */
export function contentHash(path: string): string {
  const size = fileSize(path);
  const hash = createHash('sha256');
  let file: number | null = null;
  try {
    file = openSync(path, 'r');
    if (size <= WHOLE_BYTES) {
      hash.update(readAt(file, 0, size));
    } else {
      hash.update(`${size}\0`);
      for (let i = 0; i < PIECES; i++) {
        const start = Math.floor((i * (size - PIECE_BYTES)) / (PIECES - 1));
        hash.update(readAt(file, start, PIECE_BYTES));
      }
    }
  } catch (error) {
    throw new InputError(`${path}: cannot be read: ${messageOf(error)}`);
  } finally {
    if (file !== null) closeSync(file);
  }
  return hash.digest('hex').slice(0, DIGITS);
}

/**
 * One hash for the training and held-out files together, by content and order: equal data under other names have an equal
 * hash. Null unless both are known.
 */
export function dataHash({ train, heldout }: Partial<DataFiles>): string | null {
  if (train === undefined || heldout === undefined) return null;
  const contents = [train, heldout].map((files) => Object.values(files).map(({ hash }) => hash));
  return createHash('sha256').update(JSON.stringify(contents)).digest('hex').slice(0, DIGITS);
}

function readAt(file: number, start: number, bytes: number): Buffer {
  const buffer = Buffer.allocUnsafe(bytes);
  let done = 0;
  while (done < bytes) {
    const read = readSync(file, buffer, done, bytes - done, start + done);
    if (read === 0) throw new Error('it was truncated while it was being read');
    done += read;
  }
  return buffer;
}
