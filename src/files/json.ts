/** JSON files of the results: written atomically, read with an error that names the file. */
import { readFileSync } from 'node:fs';
import { InputError, messageOf } from '../errors.js';
import { writeFileAtomic, writeTextIfChanged } from './atomic.js';

export function writeJson(path: string, value: unknown): void {
  writeFileAtomic(path, textOf(value));
}

/** Leaves a file that holds just this alone. */
export function writeJsonIfChanged(path: string, value: unknown): void {
  writeTextIfChanged(path, textOf(value));
}

const textOf = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;

/**
 * An object or array from a file; null where there is no file.
 *
 * @throws InputError for a file that cannot be read or holds something else
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
  if (typeof value !== 'object' || value === null) throw new InputError(`${path}: no JSON object`);
  return value;
}
