/** Divides documents into pieces of about a megabyte whose tokens are those of the document. */
import { InputError } from '../errors.js';
import { ByteQueue } from './byte-queue.js';
import type { Cuts } from './tokenizer.js';

/** Part of a document. */
export interface Piece {
  /** Valid until the next piece. */
  bytes: Buffer;
  /** Whether a document begins, and whether it ends, with this piece. */
  first: boolean;
  last: boolean;
}

/** Longer documents are cut into pieces: the first one has at least half as many bytes. The cuts depend only on the document. */
export const PIECE_BYTES = 2 ** 20;
/** Bytes of a piece at most: a document that cannot be cut is tokenized as a whole, in a string of JavaScript. */
const LONGEST_PIECE = 2 ** 28;
const NEWLINE = 0x0a;
const RETURN = 0x0d;

export function* piecesOf(document: Buffer, cuts: Cuts, pieceBytes = PIECE_BYTES): Generator<Piece> {
  let rest = document;
  let first = true;
  while (rest.length > pieceBytes) {
    const cut = cutOf(rest, cuts, pieceBytes, pieceBytes);
    if (cut === 0) break;
    yield { bytes: rest.subarray(0, cut), first, last: false };
    first = false;
    rest = rest.subarray(cut);
  }
  yield { bytes: rest, first, last: true };
}

/**
 * The documents of a text, in pieces; empty ones are left out.
 *
 * @param separator between documents; its newlines are those of the text, by its first line. Null: the text is one document
 * @throws InputError for a document that has to be tokenized as a whole and is too long for that
 */
export async function* textPieces(
  path: string,
  chunks: AsyncIterable<Buffer>,
  separator: string | null,
  cuts: Cuts,
  pieceBytes = PIECE_BYTES,
): AsyncGenerator<Piece> {
  const pending = new ByteQueue();
  const finder = separator === null ? null : new Finder(separator);
  /** Leading bytes of `pending` in which no separator begins, and no cut is. */
  let searched = 0;
  let uncut = 0;
  let first = true;
  for await (const chunk of chunks) {
    pending.append(chunk);
    for (;;) {
      const { bytes } = pending;
      const at = finder?.find(bytes, searched) ?? -1;
      // A separator may begin in the last bytes read: a piece ends before them.
      const clear = at === -1 ? Math.max(0, bytes.length - (finder?.longest ?? 1) + 1) : at;
      const from = Math.max(pieceBytes, uncut);
      const cut = clear > pieceBytes ? cutOf(bytes.subarray(0, clear), cuts, pieceBytes, from) : 0;
      if (cut > 0) {
        yield { bytes: bytes.subarray(0, cut), first, last: false };
        first = false;
        pending.drop(cut);
        searched = Math.max(0, searched - cut);
        uncut = 0;
      } else if (at !== -1) {
        if (at > 0 || !first) yield { bytes: bytes.subarray(0, at), first, last: true };
        first = true;
        pending.drop(at + (finder as Finder).length);
        searched = 0;
        uncut = 0;
      } else {
        searched = clear;
        uncut = Math.max(0, clear - 1);
        break;
      }
    }
    if (pending.bytes.length > LONGEST_PIECE) {
      throw new InputError(
        `${path}: a document of more than ${LONGEST_PIECE / 2 ** 20} MiB, which this tokenizer encodes as a whole: divide it with --separator`,
      );
    }
  }
  for (const piece of piecesOf(pending.bytes, cuts, pieceBytes)) {
    if (piece.bytes.length > 0 || !first) yield { ...piece, first: first && piece.first };
  }
}

/** Finds a separator whose newlines are written as the text's first one is: LF or CRLF. */
class Finder {
  readonly longest: number;
  private readonly lf: Buffer;
  private readonly crlf: Buffer;
  private found: Buffer | null;

  constructor(separator: string) {
    this.lf = Buffer.from(separator);
    this.crlf = Buffer.from(separator.replace(/(?<!\r)\n/g, '\r\n'));
    this.found = this.crlf.equals(this.lf) ? this.lf : null;
    this.longest = this.crlf.length + 1; // with the return before a newline
  }

  get length(): number {
    return (this.found as Buffer).length;
  }

  /** Where the first separator begins that does not begin before `from`; -1 without one. */
  find(bytes: Buffer, from: number): number {
    if (this.found === null) {
      const newline = bytes.indexOf(NEWLINE, from);
      if (newline === -1) return -1;
      this.found = bytes[newline - 1] === RETURN ? this.crlf : this.lf;
    }
    return bytes.indexOf(this.found, from);
  }
}

/**
 * Bytes of the first piece of more than `pieceBytes` bytes: at most `pieceBytes` if there is a cut in the second half of them, else
 * as few as possible, from `from` on; 0 if there is no cut.
 */
function cutOf(bytes: Buffer, cuts: Cuts, pieceBytes: number, from: number): number {
  if (cuts === 'never') return 0;
  if (cuts === 'anywhere') {
    // Before a character and not within CRLF, so that every piece is text.
    let at = pieceBytes;
    while (at > pieceBytes - 4 && isContinuation(bytes[at])) at--;
    return bytes[at - 1] === RETURN && bytes[at] === NEWLINE ? at - 1 : at;
  }
  if (from === pieceBytes) {
    for (let at = pieceBytes; at > pieceBytes / 2; at--) if (isLineCut(bytes, at)) return at;
  }
  for (let at = from; at < bytes.length; at++) if (isLineCut(bytes, at)) return at;
  return 0;
}

/** After a newline between a visible character and a letter, all of them ASCII. */
function isLineCut(bytes: Buffer, at: number): boolean {
  return bytes[at - 1] === NEWLINE && isVisible(bytes[at - 2]) && isLetter(bytes[at]);
}

const isVisible = (byte = 0) => byte > 0x20 && byte < 0x7f;
const isLetter = (byte = 0) => (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a);
const isContinuation = (byte = 0) => (byte & 0xc0) === 0x80;
