/** Streams the bytes of a file, decompressed if it is compressed. */
import { closeSync, createReadStream, openSync } from 'node:fs';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { ZSTDDecoder } from 'zstddec/stream';
import { InputError, messageOf } from '../errors.js';
import { unpackBzip2 } from './bzip2.js';
import { type Pipe, readPipe } from './pipes.js';

/** Bytes start .. end of a file on disk; `end` null: to its end. Compressed files and pipes are read as a whole. */
export interface Slice {
  path: string;
  start: number;
  end: number | null;
  /** The stream, if the path is not that of a file: it can be read once. */
  pipe?: Pipe;
}

const CHUNK_BYTES = 2 ** 20;
/** The number of empty results from one chunk that indicates an error; valid frames gave none in tests. */
const MANY_EMPTY = 100;

/** Called with the number of file bytes of each read. */
type OnRead = (bytes: number) => void;

const UNPACKERS = {
  // Errors of both streams are thrown by the second one.
  gzip: (slice, onRead) =>
    pipeline(bytesOf(slice, onRead), createGunzip({ chunkSize: CHUNK_BYTES }), () => undefined),
  zstd: unpackZstd,
  xz: unpackXz,
  bzip2: unpackBzip2File,
} satisfies Record<string, (slice: Slice, onRead: OnRead) => AsyncIterable<Buffer>>;

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
  slice: Slice,
  compression: Compression | null,
  onRead: OnRead,
): AsyncGenerator<Buffer> {
  try {
    yield* compression === null ? bytesOf(slice, onRead) : UNPACKERS[compression](slice, onRead);
  } catch (error) {
    const what = compression === null ? 'cannot be read' : `damaged or truncated ${compression}`;
    throw new InputError(`${slice.path}: ${what}: ${messageOf(error)}`);
  }
}

/** The first bytes of a compressed file, at least `count` if it has so many; `isEnd`: these are all. */
export async function firstUnpacked(
  slice: Slice,
  compression: Compression,
  count: number,
): Promise<{ bytes: Buffer; isEnd: boolean }> {
  const { pipe } = slice;
  const isWhole = pipe === undefined || pipe.isEnd;
  // Only the bytes that were read from a pipe are looked at.
  const start = pipe === undefined ? slice : { ...slice, pipe: { ...pipe, isEnd: true } };
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of readUnpacked(start, compression, () => undefined)) {
      // The decompressor may use its memory again.
      chunks.push(Buffer.from(chunk));
      length += chunk.length;
      if (length >= count) return { bytes: Buffer.concat(chunks), isEnd: false };
    }
  } catch (error) {
    if (isWhole || length === 0) throw error;
  }
  return { bytes: Buffer.concat(chunks), isEnd: isWhole };
}

async function* bytesOf(slice: Slice, onRead: OnRead): AsyncGenerator<Buffer> {
  const { path, start, end, pipe } = slice;
  if (pipe !== undefined) {
    yield* readChunks(slice, onRead);
    return;
  }
  const range = end === null ? { start } : { start, end: end - 1 };
  for await (const chunk of createReadStream(path, { ...range, highWaterMark: CHUNK_BYTES })) {
    onRead(chunk.length);
    yield chunk;
  }
}

/**
 * The zstd library in WebAssembly, not Node's zlib: Node 20 has no zstd, Node 22 accepts a truncated file, and 22 and 24
 * stop after the first of several frames, which `pzstd` and `cat` produce.
 */
async function* unpackZstd(slice: Slice, onRead: OnRead): AsyncGenerator<Buffer> {
  const decoder = new ZSTDDecoder();
  await decoder.init();
  let chunksRead = 0;
  const chunks = function* () {
    for (const chunk of readChunks(slice, onRead)) {
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
async function* unpackXz(slice: Slice, onRead: OnRead): AsyncGenerator<Buffer> {
  const { XzReadableStream } = (await import('xz-decompress')).default;
  const unpacked = new XzReadableStream(ReadableStream.from(bytesOf(slice, onRead)));
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

async function* unpackBzip2File(slice: Slice, onRead: OnRead): AsyncGenerator<Buffer> {
  yield* unpackBzip2(readChunks(slice, onRead));
}

/** The bytes of a file or pipe from its start; a chunk is valid until the next one. */
function* readChunks({ path, pipe }: Slice, onRead: OnRead): Generator<Buffer> {
  const file = pipe?.file ?? openSync(path, 'r');
  try {
    if (pipe !== undefined) {
      onRead(pipe.head.length);
      yield Buffer.from(pipe.head);
      if (pipe.isEnd) return;
    }
    const buffer = Buffer.alloc(CHUNK_BYTES);
    for (let read = readPipe(file, buffer); read > 0; read = readPipe(file, buffer)) {
      onRead(read);
      yield buffer.subarray(0, read);
    }
  } finally {
    if (pipe === undefined) closeSync(file);
  }
}
