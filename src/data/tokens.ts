/** Opens the tokens of a sweep: text files as bytes, or token files, concatenated. */
import { InputError } from '../errors.js';
import type { DataConfig } from './config.js';
import { findFiles, isFile } from './files.js';
import { fileSize, SegmentReader } from './segments.js';
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
export function openTokens(data: DataConfig, role: 'train' | 'heldout', baseDir: string): TokenSource {
  if (!('text' in data)) {
    const files = findFiles(patternsOf(data, role), baseDir).map(({ path }) => path);
    const segments = files.map((path) => tokenFileSegment(path, data.token_bytes));
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
  const segments = found.flatMap(({ path }, i) => {
    const size = sizes[i] as number;
    return size === 0 ? [] : [{ path, start: 0, tokens: size, tokenBytes: 1 as const, separator: true }];
  });
  return new SegmentReader(segments, BYTE_VOCABULARY);
}

/** The globs of the training or held-out data. */
export function patternsOf(data: DataConfig, role: 'train' | 'heldout'): string[] {
  if (!('text' in data)) return data[role];
  return role === 'train' ? data.text : data.heldout_text;
}

/**
 * Opens one token file: a shard of llm.c, or bare tokens of `tokenBytes` bytes.
 *
 * @throws InputError for a missing, empty or damaged file
 */
export function openTokenFile(path: string, tokenBytes: 1 | 2, vocabSize: number): TokenSource {
  if (!isFile(path)) throw new InputError(`${path}: no such file`);
  return new SegmentReader([tokenFileSegment(path, tokenBytes)], vocabSize);
}
