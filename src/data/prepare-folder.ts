/** The folder that `mod data prepare` writes: its inputs, its claim by settings, the files beside the shards. */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { InputError } from '../errors.js';
import { writeFileAtomic } from '../files/atomic.js';
import { canonicalJson } from '../files/canonical.js';
import { readJson, writeJson } from '../files/json.js';
import { findFiles, withFolders } from './files.js';
import { isPipe, openPipe, type Pipe } from './pipes.js';
import {
  type InputFile,
  inputFile,
  isShardName,
  PREPARE_FILE,
  type PrepareSettings,
  TOKENIZER_COPY,
} from './prepare.js';
import { isBuiltIn } from './tokenizers.js';

/** In the folder of the shards: the lines and rows that were skipped, with the reason of each; at most 1000 of a part. */
export const SKIPPED_FILE = 'skipped.txt';

/** A file, or a stream of unknown size. */
export type Input = InputFile & { pipe?: Pipe };

/** The files that the patterns match, without what an earlier call wrote into the folder, then the streams that they name. */
export function openInputs(patterns: readonly string[], folder: string): Input[] {
  const streams = patterns.filter(isPipe);
  const named = patterns.filter((pattern) => !isPipe(pattern));
  const files =
    named.length === 0 && streams.length > 0
      ? []
      : findFiles(withFolders(named, process.cwd()), process.cwd());
  return [
    ...files.filter(({ path, named }) => named || !isOutput(path, folder)).map(({ path }) => inputFile(path)),
    ...streams.map((path) => ({ path, bytes: 0, modified: 0, pipe: openPipe(path) })),
  ];
}

/** Whether a file in the folder of the shards is of `mod data prepare`: a wildcard may match it when the call is repeated. */
function isOutput(path: string, folder: string): boolean {
  if (!existsSync(join(folder, PREPARE_FILE))) return false;
  const own = [PREPARE_FILE, TOKENIZER_COPY, SKIPPED_FILE];
  const name = basename(path);
  if (dirname(path) === join(folder, 'parts')) return true;
  return dirname(path) === folder && (own.includes(name) || isShardName(name));
}

/**
 * Records settings and inputs in the folder. One without a finished part counts as empty.
 *
 * @throws InputError for a folder with other tokens, or with tokens of a pipe
 */
export function claimFolder(folder: string, settings: PrepareSettings, inputs: readonly Input[]): void {
  const path = join(folder, PREPARE_FILE);
  const isStream = inputs.some(({ pipe }) => pipe !== undefined);
  const expected = { ...settings, inputs: inputs.map(({ pipe: _, ...file }) => file) };
  const found = readJson(path) as typeof expected | null;
  const shards = readdirSync(folder).filter(isShardName);
  if (found === null && shards.length > 0) {
    throw new InputError(
      `${folder}: contains ${shards[0]}, which mod data prepare did not write here; choose another --out, or remove it`,
    );
  }
  if (found === null || readdirSync(join(folder, 'parts')).length === 0) {
    // A sweep's glob would match shards left by a call that finished no part.
    for (const name of shards) rmSync(join(folder, name));
    writeJson(path, expected);
    return;
  }
  if (isStream) {
    throw new InputError(
      `${folder}: already contains tokens, and a pipe cannot be read again; choose another --out, or remove it`,
    );
  }
  const keys = Object.keys({ ...found, ...expected }) as (keyof typeof expected)[];
  const differs = keys.filter((key) => canonicalJson(found[key]) !== canonicalJson(expected[key]));
  if (differs.length === 0) return;
  const changed =
    differs[0] === 'inputs' && differs.length === 1
      ? 'input files were added, removed or changed since'
      : `made with another ${differs.join(', ')}`;
  throw new InputError(`${folder}: already contains tokens: ${changed}; choose another --out, or remove it`);
}

/** Removes unusable output: it would make a corrected call fail. The lock file stays. */
export function clearFolder(folder: string, tokenizer: string): void {
  const shards = readdirSync(folder).filter(isShardName);
  for (const name of [...shards, 'parts', PREPARE_FILE, SKIPPED_FILE]) {
    rmSync(join(folder, name), { recursive: true, force: true });
  }
  const copy = join(folder, TOKENIZER_COPY);
  if (!isBuiltIn(tokenizer) && resolve(tokenizer) !== copy) rmSync(copy);
}

/** Copies a tokenizer.json next to the shards. */
export function copyTokenizer(path: string, folder: string): void {
  const copy = join(folder, TOKENIZER_COPY);
  if (resolve(path) !== copy) writeFileAtomic(copy, readFileSync(path));
}
