/** Prepares token shards from text in parts: divides the work, finds finished parts, tokenizes one part. */
import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { InputError } from '../errors.js';
import { readJson, writeJson } from '../files/json.js';
import { type DocumentFormat, documentPieces, type TextSlice } from './documents.js';
import { PIECE_BYTES, type Piece } from './pieces.js';
import type { Pipe } from './pipes.js';
import { type ShardTokenBytes, ShardWriter } from './shards.js';
import type { TextFormat } from './text-format.js';
import { HEADER_BYTES } from './token-file.js';
import type { Tokenizer } from './tokenizer.js';

/** The settings that determine the shards of a text. They are saved in prepare.json; resuming requires equal settings. */
export interface PrepareSettings extends DocumentFormat {
  format: 'mod-tokens-1';
  /** `bytes`, `gpt2`, or tokenizer.json: the copy in the folder of the shards. */
  tokenizer: string;
  /** SHA-256 of the tokenizer.json; null without one. */
  tokenizer_sha256: string | null;
  vocab_size: number;
  token_bytes: ShardTokenBytes;
  /** The token after every document. */
  end_of_text: number;
  /** Fraction of the documents that is held out. */
  heldout_share: number;
  /** Determines which documents are held out. */
  seed: number;
  /** Input bytes of a part, as stored on disk (compressed, if they are). */
  part_bytes: number;
  /** Whether files were read that the statistics of their bytes reject; absent: no. */
  unchecked?: true;
}

/** Files in the folder of the shards: their settings and inputs, and a copy of the tokenizer.json if there is one. */
export const PREPARE_FILE = 'prepare.json';
export const TOKENIZER_COPY = 'tokenizer.json';

/** A unit of work with its own shards, so that parts can be prepared in any order and by any thread. */
export interface Part {
  index: number;
  slices: TextSlice[];
}

export const SPLITS = ['train', 'heldout'] as const;
export type Split = (typeof SPLITS)[number];

export interface PartResult {
  documents: Record<Split, number>;
  tokens: Record<Split, number>;
  /** Bytes of the documents' text. */
  bytes: number;
  /** Documents with bytes that are not UTF-8, which became U+FFFD. */
  invalid?: number;
  /** Lines and rows without a text, and the problems of the first ones. */
  skipped?: { count: number; problems: string[] };
  /** File names in the folder of the shards. */
  shards: string[];
}

/** Small enough that little work is lost if the process is killed, large enough for few shards. */
export const DEFAULT_PART_BYTES = 64 * 2 ** 20;
/** Problems of skipped lines that the record of a part lists. */
const LISTED_PROBLEMS = 1000;
/** The shard size of llm.c. */
const SHARD_TOKENS = 1e8;

export interface InputFile {
  path: string;
  bytes: number;
  /** Milliseconds since 1970, to detect another text of the same length. */
  modified: number;
}

/** A file and how it is read, which is not recorded: it follows from the content. */
export type FormattedFile = Pick<InputFile, 'path' | 'bytes'> & { format: TextFormat; pipe?: Pipe };

/** @throws InputError for a file that does not exist */
export function inputFile(path: string): InputFile {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined || !stats.isFile()) throw new InputError(`${path}: no such file`);
  return { path: resolve(path), bytes: stats.size, modified: Math.floor(stats.mtimeMs) };
}

/**
 * Divides the input into parts: neighbouring small files share a part, a large JSONL file is split into slices, and any
 * other large file is one part. The division depends on the files and their sizes, not on the number of threads.
 */
export function planParts(files: readonly FormattedFile[], partBytes: number): Part[] {
  const parts: TextSlice[][] = [];
  let open: TextSlice[] = [];
  let openBytes = 0;
  const close = () => {
    if (open.length > 0) parts.push(open);
    open = [];
    openBytes = 0;
  };
  for (const { path, bytes, format, pipe } of files) {
    if (openBytes + bytes > partBytes || pipe !== undefined) close();
    const sliced = bytes > partBytes && isSeekable(format);
    const slices = sliced ? Math.ceil(bytes / partBytes) : 1;
    for (let i = 0; i < slices; i++) {
      const end = i === slices - 1 ? null : (i + 1) * partBytes;
      open.push({ path, start: i * partBytes, end, format, ...(pipe === undefined ? {} : { pipe }) });
      if (sliced) close();
    }
    openBytes += bytes;
  }
  close();
  return parts.map((slices, index) => ({ index, slices }));
}

/** Whether the documents of a file can be read from any position. */
const isSeekable = ({ content, compression, encoding }: TextFormat) =>
  content === 'parquet' || (content === 'jsonl' && compression === null && encoding === 'utf-8');

/** Path of the record of a finished part, in the folder of the shards. */
export function partRecord(folder: string, { index }: Part): string {
  return join(folder, 'parts', `${fiveDigits(index)}.json`);
}

/** The result of a finished part; null if it is not finished, or if one of its shards is missing or truncated. */
export function donePart(
  folder: string,
  part: Part,
  { token_bytes }: Pick<PrepareSettings, 'token_bytes'>,
): PartResult | null {
  const done = readJson(partRecord(folder, part)) as PartResult | null;
  if (done === null) return null;
  const isWhole = (split: Split) => {
    const shards = done.shards.filter((name) => name.startsWith(`${split}-`));
    const bytes = shards.reduce((sum, name) => sum + sizeOf(join(folder, name)), 0);
    return bytes === shards.length * HEADER_BYTES + done.tokens[split] * token_bytes;
  };
  return SPLITS.every(isWhole) ? done : null;
}

/** Bytes of a file; NaN, which is unequal to any number, if it is missing. */
const sizeOf = (path: string) => statSync(path, { throwIfNoEntry: false })?.size ?? Number.NaN;

/** How a part is prepared; the shards of parts without bad lines do not depend on it. */
export interface PrepareOptions {
  /** Called with the number of input bytes of each read. */
  onRead?: (bytes: number) => void;
  /** Whether lines and rows without a text are left out; otherwise they are errors. */
  skipBad?: boolean;
}

/**
 * Tokenizes the documents of a part into train-*.bin and heldout-*.bin, and records that it is done.
 *
 * @throws InputError for input that is damaged, or for a line or row without a text unless they are skipped
 */
export async function preparePart(
  part: Part,
  settings: PrepareSettings,
  tokenizer: Tokenizer,
  folder: string,
  { onRead = () => undefined, skipBad = false }: PrepareOptions = {},
): Promise<PartResult> {
  const nameOf = (split: Split, shard: number) => shardName(split, part.index, shard);
  const writer = (split: Split) =>
    new ShardWriter((shard) => join(folder, nameOf(split, shard)), settings.token_bytes, SHARD_TOKENS);
  const writers = { train: writer('train'), heldout: writer('heldout') };
  const documents = { train: 0, heldout: 0 };
  let bytes = 0;
  let split: Split = 'train';
  let invalid = 0;
  let isValid = true;
  const skipped = { count: 0, problems: [] as string[] };
  const onBad = (problem: string) => {
    if (!skipBad) throw new InputError(`${problem}; --skip-bad leaves such lines out`);
    skipped.count += 1;
    if (skipped.count <= LISTED_PROBLEMS) skipped.problems.push(problem);
  };
  const options = { cuts: tokenizer.cuts, onRead, onBad };
  try {
    for (const slice of part.slices) {
      for await (const piece of documentPieces(slice, settings, options)) {
        if (piece.first) {
          split = splitOf(piece, settings);
          documents[split] += 1;
        }
        bytes += piece.bytes.length;
        if (piece.first) isValid = true;
        isValid &&= tokenizer.cuts === 'anywhere' || isUtf8(piece.bytes);
        if (piece.last && !isValid) invalid += 1;
        writers[split].add(await tokenizer.encode(piece.bytes));
        if (piece.last) writers[split].add([settings.end_of_text]);
      }
    }
    for (const split of SPLITS) writers[split].finish();
  } finally {
    for (const split of SPLITS) writers[split].abandon();
  }
  const result: PartResult = {
    documents,
    tokens: { train: writers.train.tokens, heldout: writers.heldout.tokens },
    bytes,
    ...(invalid > 0 ? { invalid } : {}),
    ...(skipped.count > 0 ? { skipped } : {}),
    shards: SPLITS.flatMap((split) => writers[split].paths.map((_, shard) => nameOf(split, shard))),
  };
  writeJson(partRecord(folder, part), result);
  return result;
}

/**
 * The split of a document by a hash of its text, or of the first half megabyte of a document of several pieces: copies are in the
 * same split, and the tokenizer does not matter.
 */
function splitOf({ bytes, last }: Piece, { heldout_share, seed }: PrepareSettings): Split {
  const beginning = last && bytes.length <= PIECE_BYTES ? bytes : bytes.subarray(0, PIECE_BYTES / 2);
  const digest = createHash('sha256').update(`${seed}\0`).update(beginning).digest();
  return digest.readUIntBE(0, 6) / 2 ** 48 < heldout_share ? 'heldout' : 'train';
}

function shardName(split: Split, part: number, shard: number): string {
  return `${split}-${fiveDigits(part)}-${String(shard).padStart(2, '0')}.bin`;
}

/** Whether a file name is one that preparePart gives to shards. */
export function isShardName(name: string): boolean {
  return /^(train|heldout)-\d{5,}-\d{2,}\.bin$/.test(name);
}

const fiveDigits = (index: number) => String(index).padStart(5, '0');
