/** The files that a list of globs matches: sorted, without duplicates. */
import { statSync } from 'node:fs';
import { isAbsolute, relative, resolve } from 'node:path';
import { globSync } from 'tinyglobby';
import { InputError } from '../errors.js';

export interface FoundFile {
  /** Absolute. */
  path: string;
  /** Relative to the base folder, so that moving the whole tree does not change it; absolute if the pattern is. */
  name: string;
  /** Whether a pattern is the name of the file, not a wildcard. */
  named: boolean;
}

/**
 * The files that the patterns match, sorted by their path relative to `baseDir`, so that the order is the same when the
 * whole tree moves. A pattern that is the name of a file means that file, whatever characters it contains; a pattern that
 * starts with `!` excludes files.
 *
 * @throws InputError for a pattern that matches nothing
 */
export function findFiles(patterns: string[], baseDir: string): FoundFile[] {
  const excluded = patterns.filter((pattern) => pattern.startsWith('!')).map((pattern) => pattern.slice(1));
  const found = new Map<string, FoundFile>();
  for (const pattern of patterns) {
    if (pattern.startsWith('!')) continue;
    const named = isFile(resolve(baseDir, pattern));
    const matches = named ? [pattern] : globFiles(pattern, excluded, baseDir);
    if (matches.length === 0) {
      throw new InputError(`no file matches '${pattern}' (relative to ${resolve(baseDir)})`);
    }
    for (const match of matches) {
      const path = resolve(baseDir, match);
      const name = isAbsolute(pattern) ? path : relative(baseDir, path);
      found.set(path, { path, name, named: named || (found.get(path)?.named ?? false) });
    }
  }
  if (found.size === 0) throw new InputError(`no file matches ${JSON.stringify(patterns)}`);
  const key = (file: FoundFile) => relative(baseDir, file.path);
  return [...found.values()].sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

function globFiles(pattern: string, ignore: string[], cwd: string): string[] {
  return globSync(pattern, { cwd, ignore, absolute: true, expandDirectories: false });
}

/** Whether the path is a regular file that can be accessed. */
export function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
