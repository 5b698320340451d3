/** The safetensors format: eight bytes of header length, a JSON header, the tensors' bytes one after another. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { InputError, messageOf } from '../errors.js';
import { writeFileAtomic } from './atomic.js';

export interface SafeTensor {
  name: string;
  dtype: SafeDtype;
  shape: number[];
  data: Float32Array | Int32Array;
}

export type SafeDtype = 'F32' | 'I32';

const BYTES = 4; // of both dtypes that the project writes
/** The reference implementation's limit. */
const LARGEST_HEADER = 100_000_000;

interface Entry {
  name: string;
  dtype: SafeDtype;
  shape: number[];
  start: number;
  end: number;
}

/** Writes tensors in the order given, atomically; the same tensors give the same bytes. */
export function writeSafetensors(path: string, tensors: readonly SafeTensor[]): void {
  let offset = 0;
  const header: Record<string, unknown> = {};
  for (const { name, dtype, shape, data } of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const json = JSON.stringify(header);
  const text = Buffer.from(
    json.padEnd(Math.ceil(Buffer.byteLength(json) / 8) * 8 + json.length - Buffer.byteLength(json)),
  );
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const parts = tensors.map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  writeFileAtomic(path, length, text, ...parts);
}

/**
 * Reads every tensor of a file. The header is checked against the file before anything is allocated for it; an
 * InputError names the file and, where there is one, the tensor.
 */
export function readSafetensors(path: string): Map<string, SafeTensor> {
  const file = open(path);
  try {
    const size = fstatSync(file).size;
    const { entries, dataStart } = readHeader(path, file, size);
    return new Map(entries.map((entry) => [entry.name, readTensor(path, file, entry, dataStart)]));
  } finally {
    closeSync(file);
  }
}

function open(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw new InputError(`${path}: cannot be read: ${messageOf(error)}`);
  }
}

function readHeader(path: string, file: number, size: number): { entries: Entry[]; dataStart: number } {
  const fail = (what: string): never => {
    throw new InputError(`${path}: not a safetensors file: ${what}`);
  };
  if (size < 8) fail(`${size} bytes are too few for a header`);
  const length = Number(readBytes(path, file, 0, 8).readBigUInt64LE());
  if (length > LARGEST_HEADER || 8 + length > size) {
    fail(`its header claims ${length} bytes, the file has ${size}`);
  }
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(readBytes(path, file, 8, length)));
  } catch (error) {
    fail(messageOf(error));
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) fail('its header is no object');
  const entries = Object.entries(header as Record<string, unknown>)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, value]) => checkEntry(path, name, value, size - 8 - length));
  const inOrder = [...entries].sort((a, b) => a.start - b.start || a.end - b.end);
  let end = 0;
  for (const entry of inOrder) {
    if (entry.start !== end) {
      throw new InputError(
        `${path}: the tensor ${entry.name} starts at ${entry.start}, where ${end} was expected`,
      );
    }
    end = entry.end;
  }
  if (end !== size - 8 - length) fail(`its tensors end at ${end}, its data at ${size - 8 - length}`);
  return { entries, dataStart: 8 + length };
}

function checkEntry(path: string, name: string, value: unknown, available: number): Entry {
  const fail = (what: string): never => {
    throw new InputError(`${path}: the tensor ${name}: ${what}`);
  };
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
  if (dtype !== 'F32' && dtype !== 'I32') return fail(`dtype ${JSON.stringify(dtype)} is not F32 or I32`);
  const isSize = (n: unknown): n is number => typeof n === 'number' && Number.isSafeInteger(n) && n >= 0;
  if (!Array.isArray(shape) || !shape.every(isSize))
    return fail(`shape ${JSON.stringify(shape)} is not a list of sizes`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    return fail(`data_offsets ${JSON.stringify(offsets)} are not two positions`);
  }
  const [start, end] = offsets as [number, number];
  const size = shape.reduce((product: number, side) => product * side, BYTES);
  if (end < start || end > available) fail(`its data lies at ${start} to ${end} of ${available} bytes`);
  if (end - start !== size) fail(`[${shape}] takes ${size} bytes, its data has ${end - start}`);
  return { name, dtype, shape, start, end };
}

function readTensor(path: string, file: number, entry: Entry, dataStart: number): SafeTensor {
  const bytes = readBytes(path, file, dataStart + entry.start, entry.end - entry.start);
  const { name, dtype, shape } = entry;
  const values = bytes.byteLength / BYTES;
  const data =
    dtype === 'F32'
      ? new Float32Array(bytes.buffer, bytes.byteOffset, values)
      : new Int32Array(bytes.buffer, bytes.byteOffset, values);
  return { name, dtype, shape, data };
}

/** Exactly `length` bytes from a position, in a buffer of their own. */
function readBytes(path: string, file: number, position: number, length: number): Buffer {
  const bytes = Buffer.from(new ArrayBuffer(length));
  for (let at = 0; at < length; ) {
    const read = readSync(file, bytes, at, length - at, position + at);
    if (read === 0) throw new InputError(`${path}: it ends at ${position + at}, before ${position + length}`);
    at += read;
  }
  return bytes;
}
