/** Writes llm.c's token shards: a header of 256 int32, then uint16 or uint32 tokens, little-endian. */
import { closeSync, fsyncSync, openSync, renameSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { syncFolder, writeAll } from '../files/atomic.js';
import { HEADER_BYTES } from './token-file.js';

/** As llm.c writes them: magic number and version for GPT-2's 2-byte tokens and Llama 3's 4-byte tokens. */
const KINDS = {
  2: { magic: 20240520, version: 1 },
  4: { magic: 20240801, version: 7 },
} as const;

const BUFFER_TOKENS = 2 ** 18;

export type ShardTokenBytes = keyof typeof KINDS;

/** Bytes per token of a shard for a vocabulary size. */
export function shardTokenBytes(vocabSize: number): ShardTokenBytes {
  return vocabSize <= 2 ** 16 ? 2 : 4;
}

/** Writes a sequence of tokens, split into shards; a shard is renamed into place once all of it is on disk. */
export class ShardWriter {
  /** Paths of the complete shards. */
  readonly paths: string[] = [];
  tokens = 0;
  private readonly buffer: Uint16Array | Uint32Array;
  private buffered = 0;
  private file: number | null = null;
  private inShard = 0;

  /**
   * @param pathOf the path of the nth shard, from 0, in a folder that exists
   * @param shardTokens maximum number of tokens of a shard
   */
  constructor(
    private readonly pathOf: (shard: number) => string,
    private readonly tokenBytes: ShardTokenBytes,
    private readonly shardTokens: number,
  ) {
    this.buffer = tokenBytes === 2 ? new Uint16Array(BUFFER_TOKENS) : new Uint32Array(BUFFER_TOKENS);
  }

  add(tokens: ArrayLike<number>): void {
    for (let done = 0; done < tokens.length; ) {
      const space = Math.min(BUFFER_TOKENS, this.shardTokens - this.inShard) - this.buffered;
      const here = Math.min(space, tokens.length - done);
      this.buffer.set(part(tokens, done, done + here), this.buffered);
      this.buffered += here;
      done += here;
      if (here === space) this.flush();
    }
  }

  /** Completes the last shard, if any token was added. */
  finish(): void {
    this.flush();
    this.complete();
  }

  /** Closes an incomplete shard without completing it. */
  abandon(): void {
    if (this.file !== null) closeSync(this.file);
    this.file = null;
  }

  private flush(): void {
    if (this.buffered === 0) return;
    if (this.file === null) {
      this.file = openSync(this.temporary(), 'w');
      writeAll(this.file, new Uint8Array(HEADER_BYTES));
    }
    writeAll(this.file, new Uint8Array(this.buffer.buffer, 0, this.buffered * this.tokenBytes));
    this.inShard += this.buffered;
    this.tokens += this.buffered;
    this.buffered = 0;
    if (this.inShard === this.shardTokens) this.complete();
  }

  private complete(): void {
    if (this.file === null) return;
    const { magic, version } = KINDS[this.tokenBytes];
    const header = Int32Array.of(magic, version, this.inShard);
    writeSync(this.file, new Uint8Array(header.buffer), 0, header.byteLength, 0);
    fsyncSync(this.file);
    closeSync(this.file);
    this.file = null;
    const path = this.pathOf(this.paths.length);
    renameSync(this.temporary(), path);
    syncFolder(dirname(path));
    this.paths.push(path);
    this.inShard = 0;
  }

  /** A fixed name, so that preparing the part again after a crash overwrites the file. */
  private temporary(): string {
    const path = this.pathOf(this.paths.length);
    return join(dirname(path), `.${basename(path)}.tmp`);
  }
}

function part(tokens: ArrayLike<number>, from: number, to: number): ArrayLike<number> {
  if (from === 0 && to === tokens.length) return tokens;
  return ArrayBuffer.isView(tokens)
    ? (tokens as Uint8Array).subarray(from, to)
    : Array.prototype.slice.call(tokens, from, to);
}
