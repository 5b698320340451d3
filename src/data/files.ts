/** Finds the files that a list of globs matches, sorted and without duplicates; reads the first bytes of a file. */
import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { escapePath } from 'tinyglobby';
import { InputError, messageOf } from '../errors.js';
import { globFiles } from './glob.js';

export interface FoundFile {
  /** Absolute. */
  path: string;
  /** Relative to the base folder, so that moving the whole tree does not change it; absolute if the pattern is. */
  name: string;
  /** Whether a pattern is the name of the file, not a wildcard. */
  named: boolean;
}

/**
 * The files that the patterns match, sorted by their path relative to `baseDir`, so that the order stays the same if the
 * whole tree moves. A pattern that is the name of an existing file matches that file, even if it contains wildcards; a
 * pattern that starts with `!` excludes files.
 *
 * @throws InputError for a pattern that matches nothing
 */
export function findFiles(patterns: string[], baseDir: string): FoundFile[] {
  const excluded = patterns.filter((pattern) => pattern.startsWith('!')).map((pattern) => pattern.slice(1));
  const found = new Map<string, FoundFile>();
  for (const pattern of patterns) {
    if (pattern.startsWith('!')) continue;
    const named = isFile(resolveFile(pattern, baseDir));
    const matches = named ? [pattern] : globFiles(pattern, excluded, baseDir);
    if (matches.length === 0) {
      throw new InputError(
        `no file matches '${pattern}' (relative to ${resolve(baseDir)}${goneText(baseDir)})`,
      );
    }
    for (const match of matches) {
      const path = resolveFile(match, baseDir);
      const name = isAbsolute(pattern) ? path : relative(baseDir, resolve(baseDir, match));
      found.set(path, { path, name, named: named || (found.get(path)?.named ?? false) });
    }
  }
  if (found.size === 0) throw new InputError(`no file matches ${JSON.stringify(patterns)}`);
  const key = (file: FoundFile) => relative(baseDir, file.path);
  return [...found.values()].sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

/** Plans of older versions have the folder's absolute path alone. */
function goneText(folder: string): string {
  return existsSync(folder)
    ? ''
    : ', which is not there: if it was moved, start mod sweep once with the sweep file at its new place';
}

/**
 * The path of a pattern below `baseDir`. A file in `node_modules` that is not there may be in that folder of a parent, where
 * npm installs the packages that several others need: it is looked for as Node does.
 */
function resolveFile(pattern: string, baseDir: string): string {
  const path = resolve(baseDir, pattern);
  const [, above, inside] = /^(.*?)node_modules[\\/](.*)$/s.exec(pattern) ?? [];
  if (isFile(path) || inside === undefined || isAbsolute(pattern)) return path;
  for (let folder = resolve(baseDir, above as string); dirname(folder) !== folder; folder = dirname(folder)) {
    const hoisted = join(folder, 'node_modules', inside);
    if (isFile(hoisted)) return hoisted;
  }
  return path;
}

/** The patterns with each that names a folder replaced by one for the files below it; hidden ones are left out. */
export function withFolders(patterns: readonly string[], baseDir: string): string[] {
  const isFolder = (path: string) => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
  return patterns.map((pattern) =>
    isFolder(resolve(baseDir, pattern)) ? `${escapePath(pattern.replace(/[\\/]+$/, ''))}/**` : pattern,
  );
}

/** Whether the path is a regular file that can be accessed. */
export function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** The first bytes of a file; fewer if the file is shorter. @throws InputError if it cannot be read */
export function firstBytes(path: string, count: number): Buffer {
  const bytes = Buffer.alloc(count);
  let file: number | null = null;
  try {
    file = openSync(path, 'r');
    return bytes.subarray(0, readSync(file, bytes, 0, count, 0));
  } catch (error) {
    throw new InputError(`${path}: cannot be read: ${messageOf(error)}`);
  } finally {
    if (file !== null) closeSync(file);
  }
}
