/** Locates the tokens of a file: llm.c's shards and NumPy arrays have a header, other files are bare tokens. */
import { InputError } from '../errors.js';
import { entropyOf, isUtf8Text, statisticsOf } from '../files/byte-statistics.js';
import { type TokenWidth, tokenLayout } from '../files/guess.js';
import { adviceOf, identify, nameOfFormat, sampleOf } from '../files/identify.js';
import { firstBytes } from './files.js';
import { isNpy, npyArray } from './npy.js';
import { fileSize, type Segment } from './segments.js';

/** 256 int32: magic, version, number of tokens, zeros (llm.c, dev/data/data_common.py). */
export const HEADER_BYTES = 1024;

/** How a file without a header is read. */
export interface TokenChecks {
  /** Bytes per token of a file without a header. */
  tokenBytes: TokenWidth;
  /** Reads what statistics alone reject. */
  unchecked: boolean;
  /** The option that sets `unchecked`, for messages. */
  option: string;
}

/** Shorter token files may be text by chance. */
const FEWEST_TEXT_BYTES = 64;
/** Compressed data has 8 bits of entropy per byte, less 0.01 in a sample of this size; ids up to 50257 at most 7.8. */
const FEWEST_RANDOM_BYTES = 2 ** 15;
const RANDOM_ENTROPY = 7.985;

/** The kinds of shards, by magic number. llm.c writes version 1 for GPT-2's tokens and version 7 for Llama 3's. */
const SHARDS = new Map<number, { tokenBytes: 2 | 4; versions: number[] }>([
  [20240520, { tokenBytes: 2, versions: [1] }],
  [20240801, { tokenBytes: 4, versions: [1, 7] }],
]);

/**
 * Locates the tokens of a file, by its header if it has one.
 *
 * @throws InputError for an empty file, a size that is not a multiple of the token size, an unknown header, or a file that
 * contains something else than tokens
 */
export function tokenFileSegment(path: string, checks: TokenChecks): Segment {
  const size = fileSize(path);
  const { tokenBytes } = checks;
  if (size === 0) throw new InputError(`${path}: the file is empty`);
  const header = firstBytes(path, Math.min(size, HEADER_BYTES));
  const shard = header.length >= 4 ? SHARDS.get(header.readInt32LE(0)) : undefined;
  if (shard === undefined) {
    if (isNpy(path)) {
      const { start, count, bytes } = npyArray(path, size);
      return { path, start, tokens: count, tokenBytes: bytes, separator: false };
    }
    checkBareTokens(path, checks);
    if (size % tokenBytes !== 0) {
      throw new InputError(`${path}: ${size} bytes are not a multiple of token_bytes, ${tokenBytes}`);
    }
    return { path, start: 0, tokens: size / tokenBytes, tokenBytes, separator: false };
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

/** Rejects files that are certainly or probably not bare tokens of this width. */
function checkBareTokens(path: string, { tokenBytes, unchecked, option }: TokenChecks): void {
  const sample = sampleOf(path);
  const statistics = statisticsOf(sample.windows);
  const identity = identify(sample, statistics);
  if (identity.type === 'format') {
    const { format } = identity;
    throw new InputError(`${path}: ${nameOfFormat(format)}, not token ids: ${adviceOf(format)}`);
  }
  if (unchecked) return;
  const reject = (what: string, advice: string) => {
    throw new InputError(`${path}: looks like ${what}: ${advice}; ${option} reads it as it is`);
  };
  if (identity.type === 'text' && identity.encoding !== 'utf-8') {
    reject(
      `text in ${identity.encoding.toUpperCase()}, not like token ids`,
      'name it in data.text, or convert it with mod data prepare',
    );
  }
  if (statistics.bytes >= FEWEST_RANDOM_BYTES && entropyOf(statistics) >= RANDOM_ENTROPY) {
    reject('compressed or encrypted data, not like token ids', 'decompress it first');
  }
  // The ids of bytes are text.
  if (tokenBytes > 1 && statistics.bytes >= FEWEST_TEXT_BYTES && isUtf8Text(statistics)) {
    reject(
      'text, not like token ids',
      'name it in data.text, convert it with mod data prepare, or set token_bytes: 1 if every byte is a token',
    );
  }
  const layout = tokenLayout(statistics);
  if (layout === null) return;
  const { bytes, bigEndian } = layout;
  if (bigEndian) {
    reject(
      `big-endian token ids of ${bytes} bytes`,
      'write them little-endian, for example with numpy’s byteswap()',
    );
  }
  // Ids of two bytes that are spread evenly look like single bytes.
  if (bytes !== tokenBytes && bytes > 1) {
    reject(
      `token ids of ${bytes} bytes, not of ${tokenBytes}`,
      `set token_bytes: ${bytes} (--token-bytes ${bytes})`,
    );
  }
}

/** Whether a file begins with a shard's magic number. @throws InputError if it cannot be read */
export function isShard(path: string): boolean {
  const header = firstBytes(path, 4);
  return header.length === 4 && SHARDS.has(header.readInt32LE(0));
}
