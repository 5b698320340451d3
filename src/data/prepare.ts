/** Text to token shards, part by part: what there is to do, what of it is done, and doing one part. */
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { InputError } from '../errors.js';
import { readJson, writeJson } from '../files/json.js';
import { type DocumentFormat, documentPieces, isJsonLines } from './documents.js';
import { type ShardTokenBytes, ShardWriter } from './shards.js';
import { HEADER_BYTES } from './token-file.js';
import type { Tokenizer } from './tokenizer.js';
import { compressionOf, type Slice } from './unpack.js';

/** What decides the shards, beside the text: kept in prepare.json, and the same when the work is taken up again. */
export interface PrepareSettings extends DocumentFormat {
  format: 'mod-tokens-1';
  /** `bytes`, `gpt2`, or tokenizer.json: the copy beside the shards. */
  tokenizer: string;
  /** SHA-256 of the tokenizer.json; null without one. */
  tokenizer_sha256: string | null;
  vocab_size: number;
  token_bytes: ShardTokenBytes;
  /** The token behind every document. */
  end_of_text: number;
  /** Share of the documents that is held out. */
  heldout_share: number;
  /** Another seed holds out other documents. */
  seed: number;
  /** Bytes of input, as they lie on the disk, that a part has. */
  part_bytes: number;
}

/** In the folder of the shards: what they were made of and with what, and the tokenizer.json if it was one. */
export const PREPARE_FILE = 'prepare.json';
export const TOKENIZER_COPY = 'tokenizer.json';

/** A share of the work that leaves shards of its own, so that it can be done anywhere and in any order. */
export interface Part {
  index: number;
  slices: Slice[];
}

export const SPLITS = ['train', 'heldout'] as const;
export type Split = (typeof SPLITS)[number];

export interface PartResult {
  documents: Record<Split, number>;
  tokens: Record<Split, number>;
  /** Of the documents' text. */
  bytes: number;
  /** Names, in the folder of the shards. */
  shards: string[];
}

/** Small enough to lose little in a kill, large enough for few shards. */
export const DEFAULT_PART_BYTES = 64 * 2 ** 20;
/** llm.c's own size of a shard. */
const SHARD_TOKENS = 1e8;

export interface InputFile {
  path: string;
  bytes: number;
  /** Milliseconds since 1970: another text of the same length is noticed. */
  modified: number;
}

/** @throws InputError for a file that is not there */
export function inputFile(path: string): InputFile {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined || !stats.isFile()) throw new InputError(`${path}: no such file`);
  return { path: resolve(path), bytes: stats.size, modified: Math.floor(stats.mtimeMs) };
}

/**
 * Divides the input: neighbouring small files together, large JSONL into slices, other large files alone. It depends on
 * the files and their sizes, not on how many processes do the work.
 */
export function planParts(files: readonly InputFile[], partBytes: number): Part[] {
  const parts: Slice[][] = [];
  let open: Slice[] = [];
  let openBytes = 0;
  const close = () => {
    if (open.length > 0) parts.push(open);
    open = [];
    openBytes = 0;
  };
  for (const { path, bytes } of files) {
    if (openBytes + bytes > partBytes) close();
    const sliced = bytes > partBytes && isJsonLines(path) && compressionOf(path) === null;
    const slices = sliced ? Math.ceil(bytes / partBytes) : 1;
    for (let i = 0; i < slices; i++) {
      const end = i === slices - 1 ? null : (i + 1) * partBytes;
      open.push({ path, start: i * partBytes, end });
      if (sliced) close();
    }
    openBytes += bytes;
  }
  close();
  return parts.map((slices, index) => ({ index, slices }));
}

/** The record of a part that is done: it lies beside the shards. */
export function partRecord(folder: string, { index }: Part): string {
  return join(folder, 'parts', `${fiveDigits(index)}.json`);
}

/** What a part left when it was done; null: it is still to do, or to do again, since a shard of it is gone or cut short. */
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

/** Bytes of a file; where there is none NaN, which equals nothing. */
const sizeOf = (path: string) => statSync(path, { throwIfNoEntry: false })?.size ?? Number.NaN;

/**
 * Tokenizes the documents of a part into train-*.bin and heldout-*.bin, and records that it is done.
 *
 * @param onRead told the bytes of input that each read took
 * @throws InputError for input that is damaged or not what its name says
 */
export async function preparePart(
  part: Part,
  settings: PrepareSettings,
  tokenizer: Tokenizer,
  folder: string,
  onRead: (bytes: number) => void = () => undefined,
): Promise<PartResult> {
  const nameOf = (split: Split, shard: number) => shardName(split, part.index, shard);
  const writer = (split: Split) =>
    new ShardWriter((shard) => join(folder, nameOf(split, shard)), settings.token_bytes, SHARD_TOKENS);
  const writers = { train: writer('train'), heldout: writer('heldout') };
  const documents = { train: 0, heldout: 0 };
  let bytes = 0;
  let split: Split = 'train';
  try {
    for (const slice of part.slices) {
      for await (const piece of documentPieces(slice, settings, onRead)) {
        if (piece.first) {
          split = splitOf(piece.bytes, settings);
          documents[split] += 1;
        }
        bytes += piece.bytes.length;
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
    shards: SPLITS.flatMap((split) => writers[split].paths.map((_, shard) => nameOf(split, shard))),
  };
  writeJson(partRecord(folder, part), result);
  return result;
}

/** By a hash of the document's beginning, all of it up to a piece: copies of a document are never on both sides. */
function splitOf(beginning: Uint8Array, { heldout_share, seed }: PrepareSettings): Split {
  const digest = createHash('sha256').update(`${seed}\0`).update(beginning).digest();
  return digest.readUIntBE(0, 6) / 2 ** 48 < heldout_share ? 'heldout' : 'train';
}

function shardName(split: Split, part: number, shard: number): string {
  return `${split}-${fiveDigits(part)}-${String(shard).padStart(2, '0')}.bin`;
}

/** Whether a file is called as the shards are that preparePart writes. */
export function isShardName(name: string): boolean {
  return /^(train|heldout)-\d{5,}-\d{2,}\.bin$/.test(name);
}

const fiveDigits = (index: number) => String(index).padStart(5, '0');
