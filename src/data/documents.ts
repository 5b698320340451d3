/** The documents of text, JSONL and Parquet files, streamed: memory does not grow with the size of a file. */
import { InputError, messageOf } from '../errors.js';
import { inUtf8 } from './encodings.js';
import { textOfLine } from './json-lines.js';
import { parquetRows } from './parquet.js';
import type { TextFormat } from './text-format.js';
import { readUnpacked, type Slice } from './unpack.js';

/** How a file is divided into documents. */
export interface DocumentFormat {
  /** The field of a JSONL line, or the column of a Parquet file, that holds the text. */
  field: string;
  /** The separator between the documents of a text file; null: the file is one document. */
  separator: string | null;
}

/** Part of a document. */
export interface Piece {
  bytes: Buffer;
  /** Whether a document begins, and whether it ends, with this piece. */
  first: boolean;
  last: boolean;
}

/** Longer documents are split into pieces. The cuts depend only on the document. */
export const PIECE_BYTES = 2 ** 20;
/** Maximum bytes of a line of JSONL, which is parsed as a whole. */
const LONGEST_LINE = 2 ** 28;
const NEWLINE = 0x0a;

/** Bytes of a file, and how they are read; a compressed file, or one that is not UTF-8, is read as a whole. */
export interface TextSlice extends Slice {
  format: TextFormat;
}

/** Called with the number of file bytes of each read. */
type OnRead = (bytes: number) => void;
/** Called for a line or row without a text, with its file, place and what is wrong; the next one is read if it returns. */
type OnBad = (problem: string) => void;

const rejectBad: OnBad = (problem) => {
  throw new InputError(problem);
};

/**
 * The documents that begin in a slice of a file, in pieces; empty documents are left out.
 *
 * @param onBad by default an InputError
 * @throws InputError for a damaged file
 */
export async function* documentPieces(
  slice: TextSlice,
  { field, separator }: DocumentFormat,
  onRead: OnRead = () => undefined,
  onBad: OnBad = rejectBad,
): AsyncGenerator<Piece> {
  const { path, format } = slice;
  switch (format.content) {
    case 'text':
      yield* textPieces(textBytes(slice, onRead), separator === null ? null : Buffer.from(separator));
      return;
    case 'jsonl':
      for await (const { line, offset } of linesOf(slice, onRead)) {
        const text = textAt(line.toString(), field, (problem) =>
          onBad(`${path}: the line at byte ${offset} ${problem}`),
        );
        if (text !== null) yield* piecesOf(Buffer.from(text));
      }
      return;
    case 'parquet':
      for await (const { text, row } of parquetRows(slice, field, onRead)) {
        if (text === null) onBad(`${path}: row ${row} has no text in its column '${field}'`);
        else if (text !== '') yield* piecesOf(Buffer.from(text));
      }
      return;
    default:
      format.content satisfies never;
  }
}

/** The bytes of a slice in UTF-8, without the byte order mark of the file. */
function textBytes(slice: TextSlice, onRead: OnRead): AsyncIterable<Buffer> {
  const { compression, encoding, markBytes } = slice.format;
  const left = Math.max(0, markBytes - slice.start);
  return inUtf8(readUnpacked(slice, compression, onRead), encoding, left);
}

function textAt(line: string, field: string, onBad: OnBad): string | null {
  try {
    return textOfLine(line, field);
  } catch (error) {
    onBad(messageOf(error));
    return null;
  }
}

/** Lines of JSONL that begin in the slice, each to its end, which may be after the slice. */
async function* linesOf(slice: TextSlice, onRead: OnRead): AsyncGenerator<{ line: Buffer; offset: number }> {
  const { path, start, end, format } = slice;
  if (end !== null && end <= start) return;
  // Start one byte earlier: the first line of the slice begins after the first newline from there.
  let isAfterNewline = start === 0;
  const from = Math.max(0, start - 1);
  let offset = from + Math.max(0, format.markBytes - from);
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  for await (const chunk of textBytes({ ...slice, start: from, end: null }, onRead)) {
    for (let from = 0; from < chunk.length; ) {
      const newline = chunk.indexOf(NEWLINE, from);
      const to = newline === -1 ? chunk.length : newline;
      pending.push(chunk.subarray(from, to));
      pendingBytes += to - from;
      from = to + 1;
      if (pendingBytes > LONGEST_LINE) {
        throw new InputError(
          `${path}: the line at byte ${offset} has more than ${LONGEST_LINE} bytes: is it JSONL?`,
        );
      }
      if (newline === -1) break;
      if (isAfterNewline) yield { line: join(pending), offset };
      isAfterNewline = true;
      offset += pendingBytes + 1;
      pending = [];
      pendingBytes = 0;
      if (end !== null && offset >= end) return;
    }
  }
  if (isAfterNewline && pendingBytes > 0) yield { line: join(pending), offset };
}

const join = (parts: Buffer[]) => (parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts));

function* piecesOf(document: Buffer): Generator<Piece> {
  let from = 0;
  while (document.length - from > PIECE_BYTES) {
    const bytes = document.subarray(from, from + cutBefore(document.subarray(from)));
    yield { bytes, first: from === 0, last: false };
    from += bytes.length;
  }
  yield { bytes: document.subarray(from), first: from === 0, last: true };
}

async function* textPieces(chunks: AsyncIterable<Buffer>, separator: Buffer | null): AsyncGenerator<Piece> {
  let pending: Buffer = Buffer.alloc(0);
  let searched = 0; // leading bytes of `pending` in which no separator begins
  let first = true;
  for await (const chunk of chunks) {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    for (;;) {
      const at = separator === null ? -1 : pending.indexOf(separator, searched);
      // A separator may begin in the last bytes read: a piece ends before them.
      const clear = at === -1 ? Math.max(0, pending.length - (separator?.length ?? 1) + 1) : at;
      if (clear > PIECE_BYTES) {
        const bytes = pending.subarray(0, cutBefore(pending));
        yield { bytes, first, last: false };
        first = false;
        pending = pending.subarray(bytes.length);
        searched = 0;
      } else if (at !== -1) {
        if (at > 0 || !first) yield { bytes: pending.subarray(0, at), first, last: true };
        first = true;
        pending = pending.subarray(at + (separator as Buffer).length);
        searched = 0;
      } else {
        searched = clear;
        break;
      }
    }
  }
  for (; pending.length > PIECE_BYTES; first = false) {
    const bytes = pending.subarray(0, cutBefore(pending));
    yield { bytes, first, last: false };
    pending = pending.subarray(bytes.length);
  }
  if (pending.length > 0 || !first) yield { bytes: pending, first, last: true };
}

/**
 * Where to cut more than PIECE_BYTES bytes: after a single newline between visible characters, which byte-level encodings
 * never merge across, so that the tokens equal those of the whole document; if the second half has none, before a character.
 */
function cutBefore(bytes: Buffer): number {
  for (let at = PIECE_BYTES; at > PIECE_BYTES / 2; at--) {
    if (bytes[at - 1] === NEWLINE && isVisible(bytes[at - 2]) && isVisible(bytes[at])) return at;
  }
  let at = PIECE_BYTES;
  while (at > PIECE_BYTES - 4 && isContinuation(bytes[at])) at--;
  return at;
}

/** ASCII except white space and control characters. */
const isVisible = (byte = 0) => byte > 0x20 && byte < 0x7f;
const isContinuation = (byte = 0) => (byte & 0xc0) === 0x80;
