/** Opens the tokens of a sweep: text files as bytes, or token files, concatenated. */
import { InputError } from '../errors.js';
import type { TokenWidth } from '../files/guess.js';
import { ByteQueue } from './byte-queue.js';
import { type DataConfig, TEXT_FIELD } from './config.js';
import { documentPieces } from './documents.js';
import { type FoundFile, findFiles, isFile } from './files.js';
import { fileSize, type Segment, SegmentReader } from './segments.js';
import { type TextChecks, textFormats } from './text-format.js';
import { tokenFileSegment } from './token-file.js';
import type { TokenSource } from './token-source.js';

/** Text files are read as bytes, with a NUL byte after each file to separate documents. */
const BYTE_VOCABULARY = 256;

/**
 * Opens the training or held-out tokens of a sweep file.
 *
 * @param baseDir the folder that the globs are relative to
 * @throws InputError for a glob that matches nothing, an empty or damaged file
 */
export async function openTokens(
  data: DataConfig,
  role: 'train' | 'heldout',
  baseDir: string,
): Promise<TokenSource> {
  if (!('text' in data)) {
    const files = findFiles(patternsOf(data, role), baseDir).map(({ path }) => path);
    const checks = {
      tokenBytes: data.token_bytes,
      unchecked: data.unchecked ?? false,
      option: 'data.unchecked: true',
    };
    const segments = files.map((path) => tokenFileSegment(path, checks));
    return new SegmentReader(segments, data.vocab_size);
  }
  if (data.tokenizer !== 'bytes') {
    throw new InputError(
      `data.tokenizer: text files are read as bytes, found '${data.tokenizer}': write tokenizer: bytes, or convert them to token files with mod data prepare`,
    );
  }
  if (data.vocab_size < BYTE_VOCABULARY) {
    throw new InputError(`data.vocab_size: bytes need ${BYTE_VOCABULARY}, found ${data.vocab_size}`);
  }
  const found = findFiles(patternsOf(data, role), baseDir);
  // An empty file among others that a wildcard matches is skipped; an empty file that is named, or only empty files, are errors.
  const sizes = found.map(({ path }) => fileSize(path));
  const empty = found.find(({ named }, i) => sizes[i] === 0 && (named || sizes.every((size) => size === 0)));
  if (empty !== undefined) throw new InputError(`${empty.path}: the file is empty`);
  const full = found.filter((_, i) => (sizes[i] as number) > 0);
  return new SegmentReader(await textSegments(full, data), BYTE_VOCABULARY);
}

/** Text in UTF-8 stays on disk; the documents of other files are read into memory, each with a NUL after it. */
async function textSegments(
  files: readonly FoundFile[],
  { field = TEXT_FIELD, unchecked }: Extract<DataConfig, { text: string[] }>,
): Promise<Segment[]> {
  const checks: TextChecks = {
    unchecked: unchecked ?? false,
    option: 'data.unchecked: true',
    separator: null,
  };
  const paths = files.map(({ path }) => path);
  const formats = await textFormats(files, checks);
  const segments: Segment[] = [];
  let memory = 0;
  for (const [i, format] of formats.entries()) {
    const path = paths[i] as string;
    if (format.content === 'text' && format.compression === null && format.encoding === 'utf-8') {
      const start = format.markBytes;
      const tokens = fileSize(path) - start;
      if (tokens > 0) segments.push({ path, start, tokens, tokenBytes: 1, separator: true });
      continue;
    }
    const queue = new ByteQueue();
    const slice = { path, start: 0, end: null, format };
    for await (const { bytes, last } of documentPieces(slice, { field, separator: null })) {
      queue.append(bytes);
      if (last) queue.append(DOCUMENT_END);
      if (memory + queue.bytes.length > MOST_IN_MEMORY) {
        throw new InputError(
          `${path}: more than ${MOST_IN_MEMORY / 2 ** 30} GiB of text in files that are compressed, JSON Lines, Parquet or not UTF-8, which are read into memory: convert them to token files with mod data prepare`,
        );
      }
    }
    memory += queue.bytes.length;
    if (queue.bytes.length === 0) continue;
    // The reader adds the NUL of the last document.
    const content = queue.bytes.subarray(0, -1);
    segments.push({ path, start: 0, tokens: content.length, tokenBytes: 1, separator: true, content });
  }
  if (segments.length === 0) throw new InputError(`${paths[0]}: has no text`);
  return segments;
}

const DOCUMENT_END = Buffer.of(0);
/** Bytes of the text of files that cannot be read from any position. */
const MOST_IN_MEMORY = 2 ** 31;

/** The globs of the training or held-out data. */
export function patternsOf(data: DataConfig, role: 'train' | 'heldout'): string[] {
  if (!('text' in data)) return data[role];
  return role === 'train' ? data.text : data.heldout_text;
}

/**
 * Opens one token file: a shard of llm.c, or bare tokens.
 *
 * @throws InputError for a missing, empty or damaged file
 */
export function openTokenFile(
  path: string,
  tokenBytes: TokenWidth,
  vocabSize: number,
  unchecked = false,
): TokenSource {
  if (!isFile(path)) throw new InputError(`${path}: no such file`);
  const checks = { tokenBytes, unchecked, option: '--unchecked' };
  return new SegmentReader([tokenFileSegment(path, checks)], vocabSize);
}
