/** Validates the header of a safetensors file: every entry in range, no two overlapping, all bytes used. */
import { InputError, messageOf } from '../errors.js';

/** The types that are read; F16, BF16 and F64 are converted to F32. */
const BYTES_PER_VALUE = { F32: 4, I32: 4, F16: 2, BF16: 2, F64: 8 };

export type Dtype = keyof typeof BYTES_PER_VALUE;

export interface Entry {
  name: string;
  dtype: Dtype;
  shape: number[];
  /** First byte, and the one after the last, relative to the start of the data. */
  begin: number;
  end: number;
}

/**
 * The tensors that a header describes, in its order.
 *
 * @param dataBytes bytes of the file after the header
 * @throws InputError naming the file and, if one is at fault, the tensor
 */
export function checkHeader(path: string, header: Uint8Array, dataBytes: number): Entry[] {
  const fail = (what: string): never => {
    throw new InputError(`${path}: not a safetensors file: ${what}`);
  };
  let parsed: unknown;
  let text = '';
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header);
    parsed = JSON.parse(text);
  } catch (error) {
    fail(`its header: ${messageOf(error)}`);
  }
  if (!text.startsWith('{') || !isObject(parsed)) return fail('its header is not a JSON object');
  const duplicate = duplicateKey(text);
  if (duplicate !== null) fail(`its header names ${JSON.stringify(duplicate)} twice`);
  const { __metadata__: metadata = {}, ...tensors } = parsed;
  if (!isObject(metadata) || Object.values(metadata).some((value) => typeof value !== 'string')) {
    fail('its __metadata__ is not an object of strings');
  }
  const entries = Object.entries(tensors).map(([name, value]) => checkEntry(path, name, value, dataBytes));
  let end = 0;
  for (const entry of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (entry.begin !== end) {
      throw new InputError(
        `${path}: the tensor ${entry.name}: its data starts at ${entry.begin}, expected ${end}`,
      );
    }
    end = entry.end;
  }
  if (end !== dataBytes) fail(`its tensors take ${end} bytes, the file has ${dataBytes} for them`);
  return entries;
}

function checkEntry(path: string, name: string, value: unknown, dataBytes: number): Entry {
  const fail = (what: string): never => {
    throw new InputError(`${path}: the tensor ${name}: ${what}`);
  };
  if (!isObject(value)) return fail('not described by an object');
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isDtype(dtype)) {
    return fail(`dtype ${shown(dtype)} is none of ${Object.keys(BYTES_PER_VALUE).join(', ')}`);
  }
  if (!isSizes(shape)) return fail(`shape ${shown(shape)} is not a list of sizes`);
  if (!isSizes(offsets) || offsets.length !== 2)
    return fail(`data_offsets ${shown(offsets)} are not two positions`);
  const [begin, end] = offsets as [number, number];
  if (begin > end || end > dataBytes) fail(`its data is at ${begin} to ${end} of ${dataBytes} bytes`);
  let bytes: number = BYTES_PER_VALUE[dtype];
  for (const side of shape) {
    bytes *= side;
    if (!Number.isSafeInteger(bytes)) fail(`shape ${shown(shape)} is too large for any file`);
  }
  if (bytes !== end - begin)
    fail(`${dtype} ${shown(shape)} takes ${bytes} bytes, its data has ${end - begin}`);
  return { name, dtype, shape, begin, end };
}

/** A key that occurs twice in an object of this valid JSON text: JSON.parse would silently keep the last. */
function duplicateKey(text: string): string | null {
  const objects: Set<string>[] = [];
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '{') objects.push(new Set());
    else if (text[at] === '}') objects.pop();
    else if (text[at] === '"') {
      const end = stringEnd(text, at);
      let next = end;
      while (' \t\r\n'.includes(text[next] as string)) next++;
      if (text[next] === ':') {
        const key = JSON.parse(text.slice(at, end)) as string;
        const keys = objects.at(-1) as Set<string>;
        if (keys.has(key)) return key;
        keys.add(key);
      }
      at = end - 1;
    }
  }
  return null;
}

/** The position after the string that starts at `start`. */
function stringEnd(text: string, start: number): number {
  let at = start + 1;
  while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at + 1;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isDtype(value: unknown): value is Dtype {
  return typeof value === 'string' && Object.hasOwn(BYTES_PER_VALUE, value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((side) => Number.isSafeInteger(side) && side >= 0);
}

/** A value of the file, truncated: it may be megabytes. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'missing';
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
