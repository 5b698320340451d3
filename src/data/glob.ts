/** Globs in folders of any name, through links that lead in circles, each file once. */
import { readdirSync, realpathSync, statSync } from 'node:fs';
import { sep } from 'node:path';
import { globSync } from 'tinyglobby';

/**
 * Stands for a backslash of a name while a pattern is matched: the library reads every backslash of a folder as a separator of
 * Windows. Private use: no file name has it.
 */
const STAND_IN = '\uf05c';
const hasBackslashes = sep === '/';
const hidden = (path: string) => (hasBackslashes ? path.replaceAll('\\', STAND_IN) : path);
const shown = (path: string) => (hasBackslashes ? path.replaceAll(STAND_IN, '\\') : path);

const fs = {
  readdirSync: ((path: string, options: { withFileTypes: true }) =>
    readdirSync(shown(path), options).map((entry) => {
      entry.name = hidden(entry.name);
      return entry;
    })) as unknown as typeof readdirSync,
  realpathSync: ((path: string) => hidden(realpathSync(shown(path)))) as typeof realpathSync,
  statSync: ((path: string) => statSync(shown(path))) as typeof statSync,
};

/**
 * The files below a folder that a pattern matches, absolute. A file that links make visible in several places is given once, at
 * the shortest path: a link to a parent folder repeats no text. In a pattern a backslash makes the next character literal.
 *
 * @param ignore patterns of files that are left out
 */
export function globFiles(pattern: string, ignore: readonly string[], folder: string): string[] {
  const literal = (text: string) => text.replaceAll('\\\\', STAND_IN);
  const found = globSync(hasBackslashes ? literal(pattern) : pattern, {
    cwd: hidden(folder),
    ignore: hasBackslashes ? ignore.map(literal) : [...ignore],
    absolute: true,
    expandDirectories: false,
    fs,
  }).map(shown);
  const byFile = new Map<string, string>();
  for (const path of found.sort((a, b) => depth(a) - depth(b) || (a < b ? -1 : 1))) {
    const file = realpathSync(path);
    if (!byFile.has(file)) byFile.set(file, path);
  }
  return [...byFile.values()];
}

const depth = (path: string) => path.split(sep).length;
