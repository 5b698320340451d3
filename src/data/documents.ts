/** The documents of text and JSONL files, streamed: a file of any size passes through a little memory. */
import { InputError } from '../errors.js';
import { readUnpacked, type Slice } from './unpack.js';

/** How a file is divided into documents. */
export interface DocumentFormat {
  /** The field of a JSONL line that holds the text. */
  field: string;
  /** What stands between the documents of a text file; null: the file is one document. */
  separator: string | null;
}

/** A stretch of a document; documents come one after another. */
export interface Piece {
  bytes: Buffer;
  /** Whether a document begins, and whether it ends, with this piece. */
  first: boolean;
  last: boolean;
}

/** A document longer than this comes in pieces. Where they are cut depends on the document alone. */
export const PIECE_BYTES = 2 ** 20;
/** A line of JSONL is parsed whole. */
const LONGEST_LINE = 2 ** 28;
const NEWLINE = 0x0a;
/** What some programs begin UTF-8 with; JSON has no place for it. */
const BYTE_ORDER_MARK = Buffer.from('\uFEFF');

/** By its name: JSON Lines, compressed or not. C4, Dolma and others call theirs .json.gz. */
export function isJsonLines(path: string): boolean {
  return /\.(jsonl|ndjson|json)(\.(gz|zst|zstd))?$/i.test(path);
}

/**
 * The documents that begin in a slice of a file, in pieces; empty ones are left out.
 *
 * @param onRead told the bytes of the file that each read took
 * @throws InputError for a file that is damaged, and a line that is not what the format says, by its byte
 */
export async function* documentPieces(
  slice: Slice,
  { field, separator }: DocumentFormat,
  onRead: (bytes: number) => void = () => undefined,
): AsyncGenerator<Piece> {
  if (!isJsonLines(slice.path)) {
    yield* textPieces(readUnpacked(slice, onRead), separator === null ? null : Buffer.from(separator));
    return;
  }
  for await (const { line, offset } of linesOf(slice, onRead)) {
    const json = offset === 0 ? withoutMark(line) : line;
    const text = textOfLine(json, field, `${slice.path}: the line at byte ${offset}`);
    if (text !== null) yield* piecesOf(Buffer.from(text));
  }
}

/** Lines of JSONL that begin in the slice: one that begins in it is its own to the end, wherever that is. */
async function* linesOf(
  slice: Slice,
  onRead: (bytes: number) => void,
): AsyncGenerator<{ line: Buffer; offset: number }> {
  const { path, start, end } = slice;
  if (end !== null && end <= start) return;
  // From the byte before: the slice's first line begins behind the first newline from there on.
  let isBehindNewline = start === 0;
  let offset = Math.max(0, start - 1);
  let held: Buffer[] = [];
  let heldBytes = 0;
  for await (const chunk of readUnpacked({ ...slice, start: offset, end: null }, onRead)) {
    for (let from = 0; from < chunk.length; ) {
      const newline = chunk.indexOf(NEWLINE, from);
      const to = newline === -1 ? chunk.length : newline;
      held.push(chunk.subarray(from, to));
      heldBytes += to - from;
      from = to + 1;
      if (heldBytes > LONGEST_LINE) {
        throw new InputError(
          `${path}: the line at byte ${offset} has more than ${LONGEST_LINE} bytes: is it JSONL?`,
        );
      }
      if (newline === -1) break;
      if (isBehindNewline) yield { line: join(held), offset };
      isBehindNewline = true;
      offset += heldBytes + 1;
      held = [];
      heldBytes = 0;
      if (end !== null && offset >= end) return;
    }
  }
  if (isBehindNewline && heldBytes > 0) yield { line: join(held), offset };
}

const join = (parts: Buffer[]) => (parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts));

function withoutMark(line: Buffer): Buffer {
  const { length } = BYTE_ORDER_MARK;
  return line.subarray(0, length).equals(BYTE_ORDER_MARK) ? line.subarray(length) : line;
}

/** Null for a line with nothing in it. */
function textOfLine(line: Buffer, field: string, where: string): string | null {
  const written = line.toString();
  if (written.trim() === '') return null;
  let value: unknown;
  try {
    value = JSON.parse(written);
  } catch {
    throw new InputError(`${where} is not JSON`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new InputError(`${where} is no JSON object`);
  }
  const text = (value as Record<string, unknown>)[field];
  if (typeof text === 'string') return text === '' ? null : text;
  const texts = Object.entries(value).filter(([, other]) => typeof other === 'string');
  const others =
    texts.length === 0 ? 'no other field is text' : `text is in ${texts.map(([key]) => key).join(', ')}`;
  throw new InputError(`${where} has no text in its field '${field}': ${others}; name it with --field`);
}

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
  let held: Buffer = Buffer.alloc(0);
  let searched = 0; // bytes of `held` in which no separator begins
  let first = true;
  for await (const chunk of chunks) {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    for (;;) {
      const at = separator === null ? -1 : held.indexOf(separator, searched);
      // A separator may begin at the end of what has been read: a piece stops before that.
      const clear = at === -1 ? Math.max(0, held.length - (separator?.length ?? 1) + 1) : at;
      if (clear > PIECE_BYTES) {
        const bytes = held.subarray(0, cutBefore(held));
        yield { bytes, first, last: false };
        first = false;
        held = held.subarray(bytes.length);
        searched = 0;
      } else if (at !== -1) {
        if (at > 0 || !first) yield { bytes: held.subarray(0, at), first, last: true };
        first = true;
        held = held.subarray(at + (separator as Buffer).length);
        searched = 0;
      } else {
        searched = clear;
        break;
      }
    }
  }
  for (; held.length > PIECE_BYTES; first = false) {
    const bytes = held.subarray(0, cutBefore(held));
    yield { bytes, first, last: false };
    held = held.subarray(bytes.length);
  }
  if (held.length > 0 || !first) yield { bytes: held, first, last: true };
}

/**
 * Where the first piece of more than PIECE_BYTES bytes ends: behind a single newline between visible characters, which
 * the patterns of byte-level encodings never join across, so that the tokens are those of the whole; where its second
 * half has none, before a character.
 */
function cutBefore(bytes: Buffer): number {
  for (let at = PIECE_BYTES; at > PIECE_BYTES / 2; at--) {
    if (bytes[at - 1] === NEWLINE && isVisible(bytes[at - 2]) && isVisible(bytes[at])) return at;
  }
  let at = PIECE_BYTES;
  while (at > PIECE_BYTES - 4 && isContinuation(bytes[at])) at--;
  return at;
}

/** ASCII without white space and controls. */
const isVisible = (byte = 0) => byte > 0x20 && byte < 0x7f;
const isContinuation = (byte = 0) => (byte & 0xc0) === 0x80;
