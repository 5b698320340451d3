/** The documents of text, JSONL and Parquet files, streamed: memory does not grow with the size of a file. */
import { isUtf8 } from 'node:buffer';
import { InputError, messageOf } from '../errors.js';
import { inUtf8 } from './encodings.js';
import { textOfLine } from './json-lines.js';
import { parquetRows } from './parquet.js';
import { type Piece, piecesOf, textPieces } from './pieces.js';
import type { TextFormat } from './text-format.js';
import type { Cuts } from './tokenizer.js';
import { readUnpacked, type Slice } from './unpack.js';

/** How a file is divided into documents. */
export interface DocumentFormat {
  /** The field of a JSONL line, or the column of a Parquet file, that holds the text. */
  field: string;
  /** The separator between the documents of a text file; null: the file is one document. */
  separator: string | null;
}

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

export interface ReadingOptions {
  /** Where documents are cut into pieces; by default anywhere. */
  cuts?: Cuts;
  onRead?: OnRead;
  /** By default an InputError. */
  onBad?: OnBad;
  /** About how long a piece is; smaller in tests. */
  pieceBytes?: number;
}

/**
 * The documents that begin in a slice of a file, in pieces; empty documents are left out.
 *
 * @throws InputError for a damaged file
 */
export async function* documentPieces(
  slice: TextSlice,
  { field, separator }: DocumentFormat,
  { cuts = 'anywhere', onRead = () => undefined, onBad = rejectBad, pieceBytes }: ReadingOptions = {},
): AsyncGenerator<Piece> {
  const { path, format } = slice;
  switch (format.content) {
    case 'text':
      yield* textPieces(path, textBytes(slice, onRead), separator, cuts, pieceBytes);
      return;
    case 'jsonl':
      for await (const { line, offset } of linesOf(slice, onRead)) {
        const text = textAt(line, field, (problem) =>
          onBad(`${path}: the line at byte ${offset} ${problem}`),
        );
        if (text !== null) yield* piecesOf(Buffer.from(text), cuts, pieceBytes);
      }
      return;
    case 'parquet':
      for await (const { text, row } of parquetRows(slice, field, onRead)) {
        if (text === null) onBad(`${path}: row ${row} has no text in its column '${field}'`);
        else if (text !== '') yield* piecesOf(Buffer.from(text), cuts, pieceBytes);
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

function textAt(line: Buffer, field: string, onBad: OnBad): string | null {
  try {
    if (!isUtf8(line)) throw new Error('is not UTF-8');
    return textOfLine(line.toString(), field);
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
      const part = chunk.subarray(from, to);
      // A chunk is valid until the next one.
      pending.push(newline === -1 ? Buffer.from(part) : part);
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
