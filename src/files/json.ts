/** Reads and writes JSON files: atomic writes, errors with the file's name. */
import { readFileSync } from 'node:fs';
import { InputError, messageOf } from '../errors.js';
import { writeFileAtomic, writeTextIfChanged } from './atomic.js';
import { otherFormat } from './identify.js';
import { jsonText } from './numbers.js';

export function writeJson(path: string, value: unknown): void {
  writeFileAtomic(path, formatJson(value));
}

/** Leaves a file with the same content unchanged. */
export function writeJsonIfChanged(path: string, value: unknown): void {
  writeTextIfChanged(path, formatJson(value));
}

/**
 * Indents by two spaces, like `JSON.stringify(value, null, 2)`, but writes a list or object without nesting on one line:
 * half the bytes, and diffs stay readable.
 */
export function formatJson(value: unknown): string {
  return `${layOut(JSON.parse(JSON.stringify(value)), '')}\n`;
}

function layOut(value: unknown, indentation: string): string {
  if (!isNested(value) || !Object.values(value).some(isNested)) return jsonText(value);
  const inner = `${indentation}  `;
  const isList = Array.isArray(value);
  const [open, close] = isList ? '[]' : '{}';
  const entries = Object.entries(value).map(
    ([key, item]) => `${inner}${isList ? '' : `${JSON.stringify(key)}: `}${layOut(item, inner)}`,
  );
  return `${open}\n${entries.join(',\n')}\n${indentation}${close}`;
}

const isNested = (value: unknown): value is object => typeof value === 'object' && value !== null;

/**
 * An object or array from a file; null if there is no file.
 *
 * @throws InputError if the file cannot be read or has another value
 */
export function readJson(path: string): object | null {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw new InputError(`${path}: cannot be read: ${messageOf(error)}`);
  }
  if (typeof value !== 'object' || value === null) throw new InputError(`${path}: not a JSON object`);
  return value;
}

/**
 * The value of a JSON file that another program wrote, and its text without a byte order mark.
 *
 * @param what the file should be, for messages: `a tokenizer.json`
 * @throws InputError if the file cannot be read or is not JSON, with what it is instead
 */
export function readForeignJson(path: string, what: string): { value: unknown; text: string } {
  let text: string;
  try {
    text = readFileSync(path, 'utf8').replace(/^\uFEFF/, '');
  } catch (error) {
    throw new InputError(`${path}: cannot be read: ${messageOf(error)}`);
  }
  try {
    return { value: JSON.parse(text), text };
  } catch (error) {
    throw new InputError(`${path}: not ${what}: ${otherFormat(path, true) ?? messageOf(error)}`);
  }
}
