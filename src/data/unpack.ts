/** The bytes of a file, or of what is inside it where it is gzip or zstd, as a stream. */
import { closeSync, createReadStream, openSync, readSync } from 'node:fs';
import { type Duplex, pipeline } from 'node:stream';
import zlib from 'node:zlib';
import { Decompress } from 'fzstd';
import { InputError, messageOf } from '../errors.js';

/** Bytes start .. end of a file as it lies on the disk; `end` null: to its end. Compressed files are read whole. */
export interface Slice {
  path: string;
  start: number;
  end: number | null;
}

export type Compression = 'gzip' | 'zstd';

const CHUNK_BYTES = 2 ** 20;
const MAGIC: [Compression, number[]][] = [
  ['gzip', [0x1f, 0x8b]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
];

/** What a file is compressed with, by its first bytes; null: it is not. InputError where it cannot be read. */
export function compressionOf(path: string): Compression | null {
  const head = Buffer.alloc(4);
  let file: number | null = null;
  try {
    file = openSync(path, 'r');
    readSync(file, head, 0, head.length, 0);
  } catch (error) {
    throw new InputError(`${path}: cannot be read: ${messageOf(error)}`);
  } finally {
    if (file !== null) closeSync(file);
  }
  const found = MAGIC.find(([, magic]) => magic.every((byte, i) => head[i] === byte));
  return found?.[0] ?? null;
}

/**
 * The unpacked bytes of a slice.
 *
 * @param onRead told the bytes of the file that each read took
 * @throws InputError for a file that cannot be read, is damaged or ends early
 */
export async function* readUnpacked(
  { path, start, end }: Slice,
  onRead: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  const compression = compressionOf(path);
  if (end !== null && end <= start) return;
  const range = end === null ? { start } : { start, end: end - 1 };
  const file = counted(createReadStream(path, { ...range, highWaterMark: CHUNK_BYTES }), onRead);
  try {
    if (compression === null) yield* file;
    else if (compression === 'gzip') yield* through(file, zlib.createGunzip({ chunkSize: CHUNK_BYTES }));
    else if (zlib.createZstdDecompress === undefined) yield* unpackInScript(file);
    else yield* through(file, zlib.createZstdDecompress({ chunkSize: CHUNK_BYTES }));
  } catch (error) {
    const what = compression === null ? 'cannot be read' : `damaged or cut short, as ${compression}`;
    throw new InputError(`${path}: ${what}: ${messageOf(error)}`);
  }
}

async function* counted(
  chunks: AsyncIterable<Buffer>,
  onRead: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    onRead(chunk.length);
    yield chunk;
  }
}

/** Errors of either stream come out of the second one. */
function through(chunks: AsyncIterable<Buffer>, stream: Duplex): AsyncIterable<Buffer> {
  return pipeline(chunks, stream, () => undefined);
}

/** zstd before Node 22.15, whose zlib has none. */
async function* unpackInScript(file: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let ready: Uint8Array[] = [];
  const decompress = new Decompress((chunk) => ready.push(chunk));
  const take = () => {
    const chunks = ready.map((chunk) => Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    ready = [];
    return chunks;
  };
  for await (const chunk of file) {
    decompress.push(chunk);
    yield* take();
  }
  decompress.push(new Uint8Array(0), true);
  yield* take();
}
