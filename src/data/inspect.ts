/** Statistics of a token or text file, computed by reading all of it. */
import { existsSync } from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { readJson } from '../files/json.js';
import { type DocumentFormat, documentPieces } from './documents.js';
import { isNpy } from './npy.js';
import { PREPARE_FILE, type PrepareSettings, TOKENIZER_COPY } from './prepare.js';
import { SegmentReader } from './segments.js';
import type { TextFormat } from './text-format.js';
import { isShard, type TokenChecks, tokenFileSegment } from './token-file.js';
import type { Tokenizer } from './tokenizer.js';

export interface FileContents {
  file: string;
  /** `llm.c shard, uint16`, `bare tokens, uint8`, `JSONL, gzip`, ... */
  format: string;
  tokens: number;
  /** Null if the end-of-text token of a token file is unknown. */
  documents: number | null;
  /** Number of distinct tokens. */
  vocabulary_in_use: number;
  largest_token: number;
  /** The first tokens, decoded; null without a tokenizer. */
  sample: string | null;
  /** The first tokens, as ids. */
  first_tokens: number[];
}

const SAMPLE_TOKENS = 48;
const CHUNK_TOKENS = 2 ** 20;
/** More tokens than any tokenizer has: a larger token indicates that the file is read in the wrong format. */
const LARGEST_VOCABULARY = 2 ** 24;

/** How the tokens of a file were made, according to its folder. */
export interface Provenance {
  /** `bytes`, `gpt2` or the path of a tokenizer.json; null: unknown. */
  tokenizer: string | null;
  vocabSize: number | null;
  endOfText: number | null;
}

/** Reads prepare.json of `mod data prepare` in the file's folder, or finds a tokenizer.json there. */
export function provenanceOf(path: string): Provenance {
  const folder = dirname(path);
  const copy = join(folder, TOKENIZER_COPY);
  const settings = readJson(join(folder, PREPARE_FILE)) as Partial<PrepareSettings> | null;
  if (settings?.tokenizer === undefined) {
    return { tokenizer: existsSync(copy) ? copy : null, vocabSize: null, endOfText: null };
  }
  const tokenizer = settings.tokenizer === TOKENIZER_COPY ? copy : settings.tokenizer;
  return { tokenizer, vocabSize: settings.vocab_size ?? null, endOfText: settings.end_of_text ?? null };
}

/** Whether a file contains tokens: a shard or a NumPy array by its header, bare tokens by the suffix .bin. */
export function isTokenFile(path: string): boolean {
  return isShard(path) || isNpy(path) || extname(path) === '.bin';
}

/**
 * Statistics of a token file.
 *
 * @throws InputError for a damaged file, or with its byte offset for a token outside the vocabulary
 */
export async function inspectTokens(
  path: string,
  checks: TokenChecks,
  tokenizer: Tokenizer | null,
  { vocabSize, endOfText }: Provenance,
): Promise<FileContents> {
  const segment = tokenFileSegment(path, checks);
  const source = new SegmentReader([segment], vocabSize ?? tokenizer?.vocabSize ?? LARGEST_VOCABULARY);
  const end = endOfText ?? tokenizer?.endOfText ?? null;
  const counts = new TokenCounts(end);
  const chunk = new Int32Array(Math.min(CHUNK_TOKENS, source.tokens));
  for (let at = 0; at < source.tokens; at += chunk.length) {
    const here = chunk.subarray(0, Math.min(chunk.length, source.tokens - at));
    source.read(at, here);
    counts.add(here);
  }
  source.close();
  const kind = isShard(path) ? 'llm.c shard' : isNpy(path) ? 'NumPy array' : 'bare tokens';
  const { first } = counts;
  return {
    file: path,
    format: `${kind}, uint${8 * segment.tokenBytes}`,
    ...counts.summary(),
    documents: end === null ? null : counts.ends,
    sample: tokenizer === null ? null : await tokenizer.decode(first),
    first_tokens: first,
  };
}

/**
 * Statistics of a text file as the tokenizer encodes it; end-of-text tokens are not counted.
 *
 * @throws InputError for a damaged file, or JSONL without the field
 */
export async function inspectText(
  path: string,
  format: TextFormat,
  documentFormat: DocumentFormat,
  tokenizer: Tokenizer,
): Promise<FileContents> {
  const counts = new TokenCounts(null);
  let documents = 0;
  const slice = { path, start: 0, end: null, format };
  for await (const { bytes, first } of documentPieces(slice, documentFormat, { cuts: tokenizer.cuts })) {
    if (first) documents += 1;
    counts.add(await tokenizer.encode(bytes));
  }
  const { content, encoding, compression } = format;
  const kind = { text: 'text', jsonl: 'JSONL', parquet: 'Parquet' }[content];
  return {
    file: path,
    format: [
      kind,
      ...(encoding === 'utf-8' ? [] : [encoding.toUpperCase()]),
      ...(compression === null ? [] : [compression]),
    ].join(', '),
    ...counts.summary(),
    documents,
    sample: await tokenizer.decode(counts.first),
    first_tokens: counts.first,
  };
}

class TokenCounts {
  readonly first: number[] = [];
  ends = 0;
  private tokens = 0;
  private largest = 0;
  /** Indexed by token: whether it occurs. Grows with the largest token. */
  private seen = new Uint8Array(2 ** 16);

  constructor(private readonly endOfText: number | null) {}

  add(tokens: ArrayLike<number>): void {
    this.tokens += tokens.length;
    for (let i = 0; i < tokens.length; i++) {
      const token = tokens[i] as number;
      if (token > this.largest) this.largest = token;
      if (token >= this.seen.length) this.grow(token);
      this.seen[token] = 1;
      if (token === this.endOfText) this.ends += 1;
      if (this.first.length < SAMPLE_TOKENS) this.first.push(token);
    }
  }

  summary(): Pick<FileContents, 'tokens' | 'vocabulary_in_use' | 'largest_token'> {
    const inUse = this.seen.reduce((sum, occurs) => sum + occurs, 0);
    return { tokens: this.tokens, vocabulary_in_use: inUse, largest_token: this.largest };
  }

  private grow(token: number): void {
    const larger = new Uint8Array(2 ** Math.ceil(Math.log2(token + 1)));
    larger.set(this.seen);
    this.seen = larger;
  }
}
