/** Reads the header of a token file: llm.c's shards have one, other files are bare tokens. */
import { InputError } from '../errors.js';
import { firstBytes } from './files.js';
import { fileSize, type Segment } from './segments.js';

/** 256 int32: magic, version, number of tokens, zeros (llm.c, dev/data/data_common.py). */
export const HEADER_BYTES = 1024;

/** The kinds of shards, by magic number. llm.c writes version 1 for GPT-2's tokens and version 7 for Llama 3's. */
const SHARDS = new Map<number, { tokenBytes: 2 | 4; versions: number[] }>([
  [20240520, { tokenBytes: 2, versions: [1] }],
  [20240801, { tokenBytes: 4, versions: [1, 7] }],
]);

/**
 * Locates the tokens of a file, by its header if it has one.
 *
 * @param bareBytes bytes per token of a file without a header
 * @throws InputError for an empty file, a size that is not a multiple of the token size, an unknown header
 */
export function tokenFileSegment(path: string, bareBytes: 1 | 2): Segment {
  const size = fileSize(path);
  if (size === 0) throw new InputError(`${path}: the file is empty`);
  const header = firstBytes(path, Math.min(size, HEADER_BYTES));
  const shard = header.length >= 4 ? SHARDS.get(header.readInt32LE(0)) : undefined;
  if (shard === undefined) {
    if (size % bareBytes !== 0) {
      throw new InputError(`${path}: ${size} bytes are not a multiple of token_bytes, ${bareBytes}`);
    }
    return { path, start: 0, tokens: size / bareBytes, tokenBytes: bareBytes, separator: false };
  }
  if (header.length < HEADER_BYTES) {
    throw new InputError(
      `${path}: a truncated shard: the file has ${size} bytes, the header alone ${HEADER_BYTES}; copy it again`,
    );
  }
  const version = header.readInt32LE(4);
  if (!shard.versions.includes(version)) {
    throw new InputError(
      `${path}: a shard of version ${version}; this program reads version ${shard.versions.join(' or ')}`,
    );
  }
  const tokens = header.readInt32LE(8);
  if (tokens <= 0) throw new InputError(`${path}: a damaged shard: its header gives ${tokens} tokens`);
  const expected = HEADER_BYTES + tokens * shard.tokenBytes;
  if (size !== expected) {
    throw new InputError(
      `${path}: ${size < expected ? 'a truncated shard' : 'a shard with extra bytes after its tokens'}: its header gives ${tokens} tokens, ${expected} bytes; the file has ${size}`,
    );
  }
  return { path, start: HEADER_BYTES, tokens, tokenBytes: shard.tokenBytes, separator: false };
}

/** Whether a file begins with a shard's magic number. @throws InputError if it cannot be read */
export function isShard(path: string): boolean {
  const header = firstBytes(path, 4);
  return header.length === 4 && SHARDS.has(header.readInt32LE(0));
}
