/** Streams the bytes of a file, decompressed if it is compressed. */
import { closeSync, createReadStream, openSync, readSync } from 'node:fs';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { ZSTDDecoder } from 'zstddec/stream';
import { InputError, messageOf } from '../errors.js';
import { unpackBzip2 } from './bzip2.js';

/** Bytes start .. end of a file on disk; `end` null: to its end. Compressed files are read as a whole. */
export interface Slice {
  path: string;
  start: number;
  end: number | null;
}

const CHUNK_BYTES = 2 ** 20;
/** The number of empty results from one chunk that indicates an error; valid frames gave none in tests. */
const MANY_EMPTY = 100;

/** Called with the number of file bytes of each read. */
type OnRead = (bytes: number) => void;

const UNPACKERS = {
  // Errors of both streams are thrown by the second one.
  gzip: (path, onRead) =>
    pipeline(bytesOf(path, {}, onRead), createGunzip({ chunkSize: CHUNK_BYTES }), () => undefined),
  zstd: unpackZstd,
  xz: unpackXz,
  bzip2: unpackBzip2File,
} satisfies Record<string, (path: string, onRead: OnRead) => AsyncIterable<Buffer>>;

export type Compression = keyof typeof UNPACKERS;

export function isCompression(id: string | undefined): id is Compression {
  return id !== undefined && Object.hasOwn(UNPACKERS, id);
}

/**
 * The bytes of a slice, decompressed if the file is compressed.
 *
 * @param onRead called with the number of file bytes of each read
 * @throws InputError for a file that cannot be read, is damaged or ends early
 */
export async function* readUnpacked(
  { path, start, end }: Slice,
  compression: Compression | null,
  onRead: OnRead,
): AsyncGenerator<Buffer> {
  const range = end === null ? { start } : { start, end: end - 1 };
  try {
    yield* compression === null ? bytesOf(path, range, onRead) : UNPACKERS[compression](path, onRead);
  } catch (error) {
    const what = compression === null ? 'cannot be read' : `damaged or truncated ${compression}`;
    throw new InputError(`${path}: ${what}: ${messageOf(error)}`);
  }
}

/** The first bytes of a compressed file, at least `count` if it has so many; `isEnd`: these are all. */
export async function firstUnpacked(
  path: string,
  compression: Compression,
  count: number,
): Promise<{ bytes: Buffer; isEnd: boolean }> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of readUnpacked({ path, start: 0, end: null }, compression, () => undefined)) {
    // The decompressor may use its memory again.
    chunks.push(Buffer.from(chunk));
    length += chunk.length;
    if (length >= count) return { bytes: Buffer.concat(chunks), isEnd: false };
  }
  return { bytes: Buffer.concat(chunks), isEnd: true };
}

async function* bytesOf(
  path: string,
  range: { start?: number; end?: number },
  onRead: OnRead,
): AsyncGenerator<Buffer> {
  for await (const chunk of createReadStream(path, { ...range, highWaterMark: CHUNK_BYTES })) {
    onRead(chunk.length);
    yield chunk;
  }
}

/**
 * The zstd library in WebAssembly, not Node's zlib: Node 20 has no zstd, Node 22 accepts a truncated file, and 22 and 24
 * stop after the first of several frames, which `pzstd` and `cat` produce.
 */
async function* unpackZstd(path: string, onRead: OnRead): AsyncGenerator<Buffer> {
  const decoder = new ZSTDDecoder();
  await decoder.init();
  let chunksRead = 0;
  const chunks = function* () {
    for (const chunk of readChunks(path)) {
      onRead(chunk.length);
      chunksRead += 1;
      yield chunk;
    }
  };
  // The decoder does not report errors: it returns empty results for its current chunk forever.
  let empty = 0;
  let chunksBefore = 0;
  for (const unpacked of decoder.decodeStreaming(chunks())) {
    empty = unpacked.length > 0 || chunksRead > chunksBefore ? 0 : empty + 1;
    chunksBefore = chunksRead;
    if (empty === MANY_EMPTY)
      throw new Error('it has a frame that cannot be decompressed, or a window above 128 MiB');
    yield Buffer.from(unpacked.buffer, unpacked.byteOffset, unpacked.byteLength);
  }
}

/** The library in WebAssembly reads streams after one another and the padding between them, and checks CRC-32 and CRC-64. */
async function* unpackXz(path: string, onRead: OnRead): AsyncGenerator<Buffer> {
  const { XzReadableStream } = (await import('xz-decompress')).default;
  const unpacked = new XzReadableStream(ReadableStream.from(bytesOf(path, {}, onRead)));
  try {
    for await (const chunk of unpacked) {
      yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    }
  } catch (error) {
    // The codes of xz-embedded's xz.h.
    const code = Number(/error code (\d+)/.exec(messageOf(error))?.[1]);
    throw new Error(XZ_ERRORS.get(code) ?? messageOf(error));
  }
}

const XZ_ERRORS = new Map([
  [3, 'its window does not fit into memory'],
  [5, 'bytes follow that are not an xz stream'],
  [6, 'it has a SHA-256 checksum or a filter for programs, which are not read: decompress it with xz -d'],
  [7, 'a checksum differs, or the data is invalid'],
  [8, 'it ends early'],
]);

async function* unpackBzip2File(path: string, onRead: OnRead): AsyncGenerator<Buffer> {
  const chunks = function* () {
    for (const chunk of readChunks(path)) {
      onRead(chunk.length);
      yield chunk;
    }
  };
  yield* unpackBzip2(chunks());
}

function* readChunks(path: string): Generator<Buffer> {
  const file = openSync(path, 'r');
  const buffer = Buffer.alloc(CHUNK_BYTES);
  try {
    for (let read = readSync(file, buffer); read > 0; read = readSync(file, buffer)) {
      yield buffer.subarray(0, read);
    }
  } finally {
    closeSync(file);
  }
}
