/** Streams the bytes of a file, decompressed if it is gzip or zstd. */
import { closeSync, createReadStream, openSync, readSync } from 'node:fs';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { ZSTDDecoder } from 'zstddec/stream';
import { InputError, messageOf } from '../errors.js';
import { firstBytes } from './files.js';

/** Bytes start .. end of a file on disk; `end` null: to its end. Compressed files are read as a whole. */
export interface Slice {
  path: string;
  start: number;
  end: number | null;
}

const CHUNK_BYTES = 2 ** 20;
/** The number of empty results from one chunk that indicates an error; valid frames gave none in tests. */
const MANY_EMPTY = 100;

interface Format {
  /** The first bytes of a file. */
  magic: readonly number[];
  unpack: (path: string, onRead: OnRead) => AsyncIterable<Buffer>;
}

/** Called with the number of file bytes of each read. */
type OnRead = (bytes: number) => void;

const FORMATS = {
  gzip: {
    magic: [0x1f, 0x8b],
    // Errors of both streams are thrown by the second one.
    unpack: (path, onRead) =>
      pipeline(bytesOf(path, {}, onRead), createGunzip({ chunkSize: CHUNK_BYTES }), () => undefined),
  },
  zstd: { magic: [0x28, 0xb5, 0x2f, 0xfd], unpack: unpackZstd },
} satisfies Record<string, Format>;

export type Compression = keyof typeof FORMATS;
const COMPRESSIONS = Object.keys(FORMATS) as Compression[];

/** The compression of a file by its first bytes; null if it is not compressed. @throws InputError if it cannot be read */
export function compressionOf(path: string): Compression | null {
  const head = firstBytes(path, 4);
  return COMPRESSIONS.find((name) => FORMATS[name].magic.every((byte, i) => head[i] === byte)) ?? null;
}

/**
 * The decompressed bytes of a slice.
 *
 * @param onRead called with the number of file bytes of each read
 * @throws InputError for a file that cannot be read, is damaged or ends early
 */
export async function* readUnpacked({ path, start, end }: Slice, onRead: OnRead): AsyncGenerator<Buffer> {
  const compression = compressionOf(path);
  const range = end === null ? { start } : { start, end: end - 1 };
  try {
    yield* compression === null ? bytesOf(path, range, onRead) : FORMATS[compression].unpack(path, onRead);
  } catch (error) {
    const what = compression === null ? 'cannot be read' : `damaged or truncated ${compression}`;
    throw new InputError(`${path}: ${what}: ${messageOf(error)}`);
  }
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
