/** Says what a file is by its first bytes and its statistics, whatever its name. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { InputError, messageOf } from '../errors.js';
import { isUtf8Text, statisticsOf, type Window } from './byte-statistics.js';
import { CATEGORIES, type Format } from './formats.js';
import { type Guess, guessBinary, guessEscapes, hasFewControls } from './guess.js';
import { signatureOf } from './signatures.js';

/** The encodings of text that a byte order mark names; UTF-8 also without one. */
export type TextEncoding = 'utf-8' | 'utf-16le' | 'utf-16be' | 'utf-32le' | 'utf-32be';

export type Identity =
  | { type: 'empty' }
  /** Printable text; `markBytes` are those of its byte order mark. */
  | { type: 'text'; encoding: TextEncoding; markBytes: number }
  /** A format that its first bytes name. */
  | { type: 'format'; format: Format }
  /** Neither; what its statistics suggest. */
  | { type: 'guess'; guess: Guess };

/** The bytes of a file that are looked at. */
export interface Sample {
  size: number;
  /** Increasing and disjoint; the first one starts the file. */
  windows: Window[];
  tail: Buffer;
}

/** Enough for the marks at position 32769 of disk images. */
const HEAD_BYTES = 2 ** 16;
const TAIL_BYTES = 512;
/** Files up to this size are looked at as a whole. */
const WHOLE_BYTES = 2 ** 20;
/** Larger files at this many further places, at equal distances. */
const PLACES = 60;
const PLACE_BYTES = 2 ** 14;

/** Longer marks first: that of UTF-32LE begins with that of UTF-16LE. */
const MARKS: readonly [TextEncoding, readonly number[]][] = [
  ['utf-8', [0xef, 0xbb, 0xbf]],
  ['utf-32le', [0xff, 0xfe, 0, 0]],
  ['utf-32be', [0, 0, 0xfe, 0xff]],
  ['utf-16le', [0xff, 0xfe]],
  ['utf-16be', [0xfe, 0xff]],
];

/** Reads the sample of a file. @throws InputError if it cannot be read */
export function sampleOf(path: string): Sample {
  let file: number | null = null;
  try {
    file = openSync(path, 'r');
    const { size } = fstatSync(file);
    const read = (start: number, length: number): Window => {
      const bytes = Buffer.alloc(Math.min(length, size - start));
      let done = 0;
      for (let got = -1; got !== 0 && done < bytes.length; done += got) {
        got = readSync(file as number, bytes, done, bytes.length - done, start + done);
      }
      return { start, bytes: bytes.subarray(0, done), isEnd: start + done >= size };
    };
    const windows = size <= WHOLE_BYTES ? [read(0, size)] : [read(0, HEAD_BYTES)];
    if (size > WHOLE_BYTES) {
      const room = size - HEAD_BYTES - PLACE_BYTES;
      for (let i = 0; i < PLACES; i++) {
        // A multiple of 8, so that numbers of up to 8 bytes are not cut.
        const start = HEAD_BYTES + 8 * Math.floor((room * i) / (PLACES - 1) / 8);
        windows.push(read(start, PLACE_BYTES));
      }
    }
    return { size, windows, tail: read(Math.max(0, size - TAIL_BYTES), TAIL_BYTES).bytes };
  } catch (error) {
    throw new InputError(`${path}: cannot be read: ${messageOf(error)}`);
  } finally {
    if (file !== null) closeSync(file);
  }
}

/** The sample of the first bytes of a file of which no more are known, such as of a compressed one; `isEnd`: these are all. */
export function sampleOfBytes(bytes: Buffer, isEnd: boolean): Sample {
  // Formats that are checked at the end of the file are not recognised without it.
  const tail = isEnd ? bytes.subarray(-TAIL_BYTES) : Buffer.alloc(0);
  const size = isEnd ? bytes.length : Number.MAX_SAFE_INTEGER;
  return { size, windows: [{ start: 0, bytes, isEnd }], tail };
}

/** What a file is by its sample. */
export function identify({ size, windows, tail }: Sample, statistics = statisticsOf(windows)): Identity {
  if (size === 0) return { type: 'empty' };
  const head = (windows[0] as Window).bytes;
  const format = signatureOf({ head, tail, size }, isUtf8Text(statistics));
  if (format !== null) return { type: 'format', format };
  const marked = markedText(head);
  if (marked !== null && (marked.encoding !== 'utf-8' || isUtf8Text(statistics))) return marked;
  const escapes = guessEscapes(head);
  if (escapes !== null) return { type: 'guess', guess: escapes };
  if (isUtf8Text(statistics)) return { type: 'text', encoding: 'utf-8', markBytes: 0 };
  return { type: 'guess', guess: guessBinary(windows, statistics) };
}

/**
 * What a file is, for the error of a reader of another format; null if that does not say more than the reader's own error.
 *
 * @param readsText whether the reader reads text; otherwise it reads a binary format
 */
export function otherFormat(path: string, readsText: boolean): string | null {
  const sample = sampleOf(path);
  const identity = identify(sample);
  switch (identity.type) {
    case 'empty':
      return 'it is empty';
    case 'format': {
      const { format } = identity;
      if (!readsText && format.id === 'safetensors') return null;
      const isHelpful = format.category === 'pointer' || format.category === 'tokenizer';
      return `it is ${nameOfFormat(format)}${isHelpful ? `: ${adviceOf(format)}` : ''}`;
    }
    case 'guess':
      return readsText ? `it looks like ${identity.guess.name}: ${identity.guess.advice}` : null;
    case 'text': {
      const start = sample.windows[0]?.bytes.toString('utf8', identity.markBytes, 256) ?? '';
      if (/^\s*<(!doctype|html|\?xml)/i.test(start)) return 'it is a web page: download the file again';
      if (!readsText) return 'it is text';
      return identity.encoding === 'utf-8'
        ? null
        : `it is text in ${identity.encoding.toUpperCase()}: convert it to UTF-8`;
    }
    default:
      return identity satisfies never;
  }
}

/** `a PNG image`, `a file compressed with xz`. */
export function nameOfFormat({ name, category }: Format): string {
  return category === 'compressed' ? `a file compressed with ${name}` : name;
}

/** What to do with a file of a format that cannot be read. */
export function adviceOf({ advice, category }: Format): string {
  return advice ?? CATEGORIES[category];
}

/** The encoding that a byte order mark names; null without one, or if what follows has control characters. */
function markedText(head: Buffer): Extract<Identity, { type: 'text' }> | null {
  const found = MARKS.find(([, mark]) => mark.every((byte, i) => head[i] === byte));
  if (found === undefined) return null;
  const [encoding, mark] = found;
  if (encoding !== 'utf-8' && !hasFewControls(head.subarray(mark.length), encoding)) return null;
  return { type: 'text', encoding, markBytes: mark.length };
}
