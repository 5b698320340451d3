/** What makes held-out losses misleading: text that is in the training data too, and too little of it. */
import { realpathSync } from 'node:fs';
import { basename } from 'node:path';
import { count, counted, firstOf } from '../format.js';
import { contentHash } from './content-hash.js';
import { fileSize } from './segments.js';
import type { TokenSource } from './token-source.js';

export interface HeldoutUse {
  /** Tokens of a sequence. */
  sequenceLength: number;
  /** Sequences of an evaluation, as the sweep file asks for. */
  sequences: number;
  vocabSize: number;
}

/** Tokens of the held-out text that are compared at most: its first ones, which an evaluation reads. */
const HELDOUT_TOKENS = 2 ** 21;
/** Tokens of the training text that are read at most: all of a shorter text, otherwise pieces at equal distances. */
const TRAIN_TOKENS = 2 ** 23;
const PIECE_BLOCKS = 4;
/**
 * Texts of `window` tokens that are equal are copies (50 tokens: Lee et al. 2022, arXiv 2107.06499, section 4.1). A block
 * that consists of copies for the larger part is copied; a licence or a quotation does not fill one. Bytes: about as much text.
 */
const LENGTHS = { tokens: { window: 50, block: 1024 }, bytes: { window: 200, block: 4096 } };
const LARGEST_BYTE_VOCABULARY = 512;
/** One window in so many is compared, chosen by its content, so that both texts have the same ones. */
const ONE_WINDOW_IN = 32;
/** What either text has more often is of what many documents repeat, such as licences. */
const MOST_COPIES = 3;
/** Fewer windows of a block say nothing, as where all of it is one character. */
const FEWEST_WINDOWS = 4;
/** Smaller shares are what texts of a kind have in common. */
const SMALLEST_SHARE = 0.05;
/** A sample finds a few copies by chance. */
const FEWEST_BLOCKS = 6;

/**
 * Warnings about the held-out data of a sweep: files that are training files too, by path, link or content; otherwise the share of
 * its text that the training text contains; fewer sequences than are asked for.
 *
 * @throws InputError for a token outside the vocabulary, or files that cannot be read
 */
export function heldoutWarnings(train: TokenSource, heldout: TokenSource, use: HeldoutUse): string[] {
  return [...copyWarnings(train, heldout, use), ...sizeWarnings(heldout, use)];
}

function copyWarnings(train: TokenSource, heldout: TokenSource, use: HeldoutUse): string[] {
  const effect = 'so the held-out losses are too low';
  const copied = copiedShare(train, heldout, use); // first, since it also reads tokens of all files
  const same = sameFiles(train.files, heldout.files);
  if (same.length > 0) {
    const names = firstOf([...new Set(same.map((path) => basename(path)))]).join(', ');
    return [
      `${same.length} of ${counted(heldout.files.length, 'held-out file')} ${same.length === 1 ? 'is' : 'are'} also among the training files, by path or content, ${effect}: ${names}. Leave them out there: a pattern that starts with ! excludes files`,
    ];
  }
  if (copied === null) return [];
  return [
    `about ${Math.round(100 * copied)}% of the held-out text is in the training text as well, by a comparison of passages, ${effect}: hold out other documents`,
  ];
}

/** The held-out files that are training files: by path, by the file that links lead to, or by content. */
function sameFiles(train: readonly string[], heldout: readonly string[]): string[] {
  const real = new Set(train.map((path) => realpathSync(path)));
  const bySize = new Map<number, string[]>();
  for (const path of real) {
    const size = fileSize(path);
    bySize.set(size, [...(bySize.get(size) ?? []), path]);
  }
  return heldout.filter((path) => {
    if (real.has(realpathSync(path))) return true;
    const equal = bySize.get(fileSize(path)) ?? [];
    return equal.length > 0 && equal.map(contentHash).includes(contentHash(path));
  });
}

/**
 * The share of the held-out text that the training text contains; null if it is small. A training text that is read whole gives
 * the share of held-out blocks that are copied. Of a larger one the sample gives the share of training blocks that are, thus the
 * length of the copies in all of it, which counts as if each was made once.
 */
function copiedShare(train: TokenSource, heldout: TokenSource, use: HeldoutUse): number | null {
  const { window, block } = LENGTHS[use.vocabSize <= LARGEST_BYTE_VOCABULARY ? 'bytes' : 'tokens'];
  const compared = Math.min(heldout.tokens, HELDOUT_TOKENS);
  const own = blocksOf(heldout, [{ start: 0, length: compared }], block, window);
  const theirs = blocksOf(train, samples(train.tokens, PIECE_BLOCKS * block), block, window);
  const isWhole = train.tokens <= TRAIN_TOKENS;
  const [inOwn, inTheirs] = [occurrences(own), occurrences(theirs)];
  const isCopy = (key: number) => {
    const times = inTheirs.get(key) ?? 0;
    return times > 0 && times <= MOST_COPIES && (inOwn.get(key) ?? Number.POSITIVE_INFINITY) <= MOST_COPIES;
  };
  const looked = isWhole ? own : theirs;
  const copied = looked.filter((keys) => 2 * keys.filter(isCopy).length > keys.length);
  const share = copied.length / looked.length;
  const ofHeldout = isWhole ? share : Math.min(1, (share * train.tokens) / compared);
  return ofHeldout >= SMALLEST_SHARE && (isWhole || copied.length >= FEWEST_BLOCKS) ? ofHeldout : null;
}

function occurrences(blocks: readonly number[][]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const keys of blocks) for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
  return counts;
}

interface Piece {
  start: number;
  length: number;
}

/** All of a text, or of one that is too long pieces of this length at equal distances. */
function samples(total: number, length: number): Piece[] {
  if (total <= TRAIN_TOKENS) return [{ start: 0, length: total }];
  const pieces = TRAIN_TOKENS / length;
  return Array.from({ length: pieces }, (_, i) => ({
    start: Math.floor((i * (total - length)) / (pieces - 1)),
    length,
  }));
}

/** The keys of the windows of every block of the pieces, without blocks that have few. */
function blocksOf(source: TokenSource, pieces: readonly Piece[], block: number, window: number): number[][] {
  const tokens = new Int32Array(block);
  const blocks: number[][] = [];
  for (const { start, length } of pieces) {
    for (let at = 0; at < length; at += block) {
      const here = tokens.subarray(0, Math.min(block, length - at));
      source.read(start + at, here);
      const keys = windowKeys(here, window);
      if (keys.length >= FEWEST_WINDOWS) blocks.push(keys);
    }
  }
  return blocks;
}

/** Odd multipliers of the two hashes (Knuth's, and one of MurmurHash3). */
const [FIRST, SECOND] = [0x9e3779b1, 0x85ebca6b];
const SHIFT = 32 - Math.log2(ONE_WINDOW_IN);

/** A key of 53 bits for one window in `ONE_WINDOW_IN`, by rolling hashes (Karp and Rabin 1987). */
function windowKeys(tokens: Int32Array, width: number): number[] {
  const keys: number[] = [];
  const [outFirst, outSecond] = [power(FIRST, width), power(SECOND, width)];
  let [first, second] = [0, 0];
  for (let i = 0; i < tokens.length; i++) {
    const token = (tokens[i] as number) + 1;
    first = (Math.imul(first, FIRST) + token) | 0;
    second = (Math.imul(second, SECOND) + token) | 0;
    if (i >= width) {
      const left = (tokens[i - width] as number) + 1;
      first = (first - Math.imul(outFirst, left)) | 0;
      second = (second - Math.imul(outSecond, left)) | 0;
    }
    if (i < width - 1) continue;
    const mixed = Math.imul(first ^ (first >>> 15), FIRST);
    if (mixed >>> SHIFT === 0) keys.push((first >>> 0) * 2 ** 21 + (second >>> 11));
  }
  return keys;
}

/** base^exponent modulo 2³². */
function power(base: number, exponent: number): number {
  let result = 1;
  for (let i = 0; i < exponent; i++) result = Math.imul(result, base);
  return result;
}

function sizeWarnings(heldout: TokenSource, { sequences, sequenceLength }: HeldoutUse): string[] {
  const there = Math.floor((heldout.tokens - 1) / sequenceLength);
  if (there >= sequences) return [];
  return [
    `the held-out text has ${counted(there, 'sequence')} of ${count(sequenceLength)} tokens, evaluation.sequences asks for ${count(sequences)}: losses of so few depend on the documents they happen to contain. Hold out more text (mod data prepare --heldout-share), or decrease evaluation.sequences`,
  ];
}
