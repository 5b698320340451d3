/** Reads ranges of tokens from many files as one sequence, with a small buffer and few open files. */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { InputError, messageOf } from '../errors.js';
import type { TokenWidth } from '../files/guess.js';
import { openFileLimit } from '../machine.js';
import type { TokenSource } from './token-source.js';

/** The tokens of one file, little-endian, starting at byte `start`. */
export interface Segment {
  path: string;
  start: number;
  tokens: number;
  tokenBytes: TokenWidth;
  /** Whether an additional token 0, not in the file, follows its tokens. */
  separator: boolean;
  /** The content, if it is not that of the file: text that was decompressed or decoded. */
  content?: Buffer;
}

/** A process has two readers, and needs most of its open files for other things. */
const MAX_OPEN_FILES = Math.max(1, Math.min(64, Math.floor(openFileLimit() / 8)));
/** A multiple of every token size. */
const BUFFER_BYTES = 64 * 1024;

/** The size of a file in bytes. @throws InputError if it cannot be read */
export function fileSize(path: string): number {
  try {
    return statSync(path).size;
  } catch (error) {
    throw new InputError(`${path}: cannot be read: ${messageOf(error)}`);
  }
}

/** Reads concatenated segments. */
export class SegmentReader implements TokenSource {
  readonly tokens: number;
  readonly files: string[];
  /** Index of the first token of each segment. */
  private readonly firsts: number[] = [];
  /** Open descriptors by segment, the most recently used last. */
  private readonly open = new Map<number, number>();
  private readonly buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);

  constructor(
    private readonly segments: Segment[],
    private readonly vocabSize: number,
  ) {
    let total = 0;
    for (const segment of segments) {
      this.firsts.push(total);
      total += length(segment);
    }
    this.tokens = total;
    this.files = segments.map(({ path }) => path);
  }

  read(start: number, out: Int32Array): void {
    if (!Number.isSafeInteger(start) || start < 0 || start + out.length > this.tokens) {
      throw new RangeError(`tokens ${start} to ${start + out.length} of ${this.tokens}`);
    }
    let done = 0;
    for (let i = this.segmentOf(start); done < out.length; i++) {
      const segment = this.segments[i] as Segment;
      const from = start + done - (this.firsts[i] as number);
      const here = out.subarray(done, Math.min(out.length, done + length(segment) - from));
      const inFile = Math.min(here.length, segment.tokens - from);
      if (inFile > 0) this.readSegment(i, from, here.subarray(0, inFile));
      here.fill(0, Math.max(0, inFile)); // the separator, if it is in the range
      done += here.length;
    }
  }

  close(): void {
    for (const file of this.open.values()) closeSync(file);
    this.open.clear();
  }

  /** The segment that contains token `position`: the last one that starts at or before it. */
  private segmentOf(position: number): number {
    let [low, high] = [0, this.firsts.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.firsts[middle] as number) <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Fills `out` with tokens from, from + 1, ... of one file. */
  private readSegment(index: number, from: number, out: Int32Array): void {
    const segment = this.segments[index] as Segment;
    const { path, start, tokenBytes, content } = segment;
    if (content !== undefined) {
      out.set(content.subarray(from, from + out.length));
      return;
    }
    const file = this.descriptor(index, path);
    const chunk = BUFFER_BYTES / tokenBytes;
    for (let done = 0; done < out.length; done += chunk) {
      const tokens = out.subarray(done, done + chunk);
      const position = start + (from + done) * tokenBytes;
      readFully(file, this.buffer.subarray(0, tokens.length * tokenBytes), position, path);
      this.decode(tokens, segment, position);
    }
  }

  private decode(out: Int32Array, { path, tokenBytes }: Segment, position: number): void {
    const { buffer, vocabSize } = this;
    for (let i = 0; i < out.length; i++) {
      const token = tokenAt(buffer, i * tokenBytes, tokenBytes);
      if (token >= vocabSize) {
        throw new InputError(
          `${path}: the token ${token} at byte ${position + i * tokenBytes} is outside the vocabulary of ${vocabSize}: check vocab_size and token_bytes`,
        );
      }
      out[i] = token;
    }
  }

  private descriptor(index: number, path: string): number {
    let file = this.open.get(index);
    this.open.delete(index);
    if (file === undefined) {
      const [oldest] = this.open;
      if (oldest !== undefined && this.open.size >= MAX_OPEN_FILES) {
        closeSync(oldest[1]);
        this.open.delete(oldest[0]);
      }
      try {
        file = openSync(path, 'r');
      } catch (error) {
        throw new InputError(`${path}: cannot be read: ${messageOf(error)}`);
      }
    }
    this.open.set(index, file);
    return file;
  }
}

function tokenAt(buffer: Buffer, at: number, bytes: TokenWidth): number {
  return bytes === 8 ? Number(buffer.readBigUInt64LE(at)) : buffer.readUIntLE(at, bytes);
}

/** Tokens of a segment, including its separator. */
function length(segment: Segment): number {
  return segment.tokens + (segment.separator ? 1 : 0);
}

function readFully(file: number, bytes: Buffer, position: number, path: string): void {
  let done = 0;
  while (done < bytes.length) {
    const read = readSync(file, bytes, done, bytes.length - done, position + done);
    if (read === 0) throw new InputError(`${path}: was truncated while it was being read`);
    done += read;
  }
}
