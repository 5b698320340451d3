/** The bytes of a file, or of what is inside it where it is gzip or zstd, as a stream. */
import { closeSync, createReadStream, openSync, readSync } from 'node:fs';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { ZSTDDecoder } from 'zstddec/stream';
import { InputError, messageOf } from '../errors.js';

/** Bytes start .. end of a file as it lies on the disk; `end` null: to its end. Compressed files are read whole. */
export interface Slice {
  path: string;
  start: number;
  end: number | null;
}

export type Compression = 'gzip' | 'zstd';

const CHUNK_BYTES = 2 ** 20;
/** Of one chunk; sound frames have given none at all. */
const MANY_EMPTY = 100;
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
  const range = end === null ? { start } : { start, end: end - 1 };
  const bytes = () => counted(createReadStream(path, { ...range, highWaterMark: CHUNK_BYTES }), onRead);
  try {
    if (compression === null) yield* bytes();
    else if (compression === 'zstd') yield* unpackZstd(path, onRead);
    // An error of either stream comes out of the second one.
    else yield* pipeline(bytes(), createGunzip({ chunkSize: CHUNK_BYTES }), () => undefined);
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

/**
 * zstd's own code in WebAssembly. Not Node's zlib: 20 has no zstd, 22 takes a file that is cut short for a whole one,
 * and it and 24 end at the first frame of several, which `pzstd` and `cat` make.
 */
async function* unpackZstd(path: string, onRead: (bytes: number) => void): AsyncGenerator<Buffer> {
  const decoder = new ZSTDDecoder();
  await decoder.init();
  let taken = 0;
  const chunks = function* () {
    for (const chunk of readChunks(path)) {
      onRead(chunk.length);
      taken += 1;
      yield chunk;
    }
  };
  // The decoder does not tell a fault: it then goes on giving nothing, of the chunk that it has, for ever.
  let empty = 0;
  let takenBefore = 0;
  for (const unpacked of decoder.decodeStreaming(chunks())) {
    empty = unpacked.length > 0 || taken > takenBefore ? 0 : empty + 1;
    takenBefore = taken;
    if (empty === MANY_EMPTY) throw new Error('a frame that cannot be unpacked, or a window above 128 MiB');
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
