/**
 * The safetensors format (github.com/huggingface/safetensors): eight bytes of header length, a JSON header, the tensors'
 * bytes in sequence. Order, offsets and padding are those of the reference implementation, so that equal tensors give
 * equal bytes.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { InputError, messageOf } from '../errors.js';
import { writeFileAtomic } from './atomic.js';
import { otherFormat } from './identify.js';
import { checkHeader, type Entry } from './safetensors-header.js';

/** A tensor of one of the two types in checkpoints and reference cases; `data` is row-major. */
export type SafeTensor = { name: string; shape: number[] } & (
  | { dtype: 'F32'; data: Float32Array }
  | { dtype: 'I32'; data: Int32Array }
);

/** Bytes of one read at most: Node rejects lengths beyond 2³¹ - 1. */
const CHUNK_BYTES = 2 ** 28;
/** Enough for 80,000 tensors. The reference allows 100 MB, but a hostile header of that size parses to gigabytes. */
const LARGEST_HEADER = 8 * 2 ** 20;

/** Writes tensors atomically; `metadata` as in safetensorsParts. */
export function writeSafetensors(
  path: string,
  tensors: readonly SafeTensor[],
  metadata?: Record<string, string>,
): void {
  writeFileAtomic(path, ...safetensorsParts(tensors, metadata));
}

/**
 * The bytes of a file, in consecutive parts: the tensors' bytes are not copied.
 *
 * @param metadata of the file, for example {format: 'pt'}
 */
export function safetensorsParts(
  tensors: readonly SafeTensor[],
  metadata?: Record<string, string>,
): Uint8Array[] {
  if (new Set(tensors.map(({ name }) => name)).size < tensors.length) {
    throw new RangeError('two tensors have the same name');
  }
  const sorted = [...tensors].sort(referenceOrder);
  let offset = 0;
  const entries = sorted.map(({ name, dtype, shape, data }) => {
    const expected = shape.reduce((product, side) => product * side, 1);
    if (data.length !== expected) throw new RangeError(`${name}: ${data.length} values for [${shape}]`);
    const begin = offset;
    offset += data.byteLength;
    return `${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, offset] })}`;
  });
  if (metadata !== undefined) entries.unshift(`"__metadata__":${JSON.stringify(metadata)}`);
  const json = Buffer.from(`{${entries.join()}}`);
  const padding = ' '.repeat(-json.length & 7); // the data starts at a multiple of 8
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length + padding.length));
  const data = sorted.map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return [Buffer.concat([length, json, Buffer.from(padding)]), ...data];
}

/**
 * Reads every tensor of a file, by name; F16, BF16 and F64 become F32. The header is validated before memory is allocated for a
 * tensor.
 *
 * @throws InputError naming the file and, if one is at fault, the tensor
 */
export function readSafetensors(path: string): Map<string, SafeTensor> {
  let file: number | null = null;
  try {
    file = openSync(path, 'r');
    const { entries, dataStart } = readHeader(path, file);
    return new Map(entries.map((entry) => [entry.name, readTensor(path, file as number, entry, dataStart)]));
  } catch (error) {
    throw error instanceof InputError
      ? error
      : new InputError(`${path}: cannot be read: ${messageOf(error)}`);
  } finally {
    if (file !== null) closeSync(file);
  }
}

/** Compares by the bytes of the name. The reference puts wider types first; here all have four bytes. */
function referenceOrder(a: SafeTensor, b: SafeTensor): number {
  return Buffer.compare(Buffer.from(a.name), Buffer.from(b.name));
}

function readHeader(path: string, file: number): { entries: Entry[]; dataStart: number } {
  const { size } = fstatSync(file);
  if (size < 8)
    throw new InputError(`${path}: not a safetensors file: ${size} bytes are too few for a header`);
  const length = Number(new DataView(readBytes(path, file, 0, 8)).getBigUint64(0, true));
  const largest = Math.min(LARGEST_HEADER, size - 8);
  if (length > largest) {
    const other = otherFormat(path, false);
    throw new InputError(
      `${path}: not a safetensors file: ${other === null ? `it claims a header of ${length} bytes, at most ${largest} are possible` : `${other}; save the weights with safetensors, for example with safetensors.torch.save_file`}`,
    );
  }
  const entries = checkHeader(path, new Uint8Array(readBytes(path, file, 8, length)), size - 8 - length);
  return { entries, dataStart: 8 + length };
}

function readTensor(path: string, file: number, entry: Entry, dataStart: number): SafeTensor {
  const { name, shape, dtype } = entry;
  const bytes = readBytes(path, file, dataStart + entry.begin, entry.end - entry.begin);
  switch (dtype) {
    case 'F32':
      return { name, dtype, shape, data: new Float32Array(bytes) };
    case 'I32':
      return { name, dtype, shape, data: new Int32Array(bytes) };
    case 'F16':
      return { name, dtype: 'F32', shape, data: Float32Array.from(new Uint16Array(bytes), float16Value) };
    case 'BF16':
      return { name, dtype: 'F32', shape, data: bfloat16Values(new Uint16Array(bytes)) };
    case 'F64':
      return { name, dtype: 'F32', shape, data: Float32Array.from(new Float64Array(bytes)) };
    default:
      return dtype satisfies never;
  }
}

/** The value of IEEE 754's binary16: a sign, 5 bits of exponent, 10 of mantissa. */
function float16Value(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 0x1f) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

/** bfloat16 is the upper half of binary32. */
function bfloat16Values(values: Uint16Array): Float32Array<ArrayBuffer> {
  const bits = Uint32Array.from(values, (value) => value << 16);
  return new Float32Array(bits.buffer);
}

/** Exactly `length` bytes from a position. */
function readBytes(path: string, file: number, position: number, length: number): ArrayBuffer {
  const buffer = new ArrayBuffer(length);
  const bytes = new Uint8Array(buffer);
  for (let at = 0; at < length; ) {
    const read = readSync(file, bytes, at, Math.min(length - at, CHUNK_BYTES), position + at);
    if (read === 0) throw new InputError(`${path}: was truncated while it was read`);
    at += read;
  }
  return buffer;
}
