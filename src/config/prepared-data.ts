/** `data` by the prepare.json that `mod data prepare` writes beside its shards: a folder in place of the mapping, and checks. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { escapePath, isDynamicPattern } from 'tinyglobby';
import type { DataConfig } from '../data/config.js';
import { isFile } from '../data/files.js';
import { PREPARE_FILE, type PrepareSettings, TOKENIZER_COPY } from '../data/prepare.js';
import { isBuiltIn } from '../data/tokenizers.js';
import { readJson } from '../files/json.js';
import { type Path, WrittenNumber } from './document.js';

type Mapping = Record<string, unknown>;
type Prepared = Pick<PrepareSettings, 'tokenizer' | 'tokenizer_sha256' | 'vocab_size'>;

/** A problem with one key of `data`; an empty key: with all of it. */
export interface DataProblem {
  key: string;
  text: string;
}

/** The places of `data` in the parsed value of a sweep file: at the top level and in the grids. */
export function dataPlaces(file: unknown): { holder: Mapping; at: Path }[] {
  if (!isMapping(file)) return [];
  const grids = Array.isArray(file.grids) ? file.grids : [];
  return [
    { holder: file, at: ['data'] },
    ...grids.map((holder, i) => ({ holder, at: ['grids', i, 'data'] })),
  ].filter(
    (place): place is { holder: Mapping; at: Path } => isMapping(place.holder) && 'data' in place.holder,
  );
}

/**
 * Replaces `data: FOLDER` by the mapping that `mod data prepare` printed, and adds the vocabulary and tokenizer to a mapping of
 * token files without them.
 *
 * @param dir the sweep file's folder
 * @returns a problem for a folder without a prepare.json
 */
export function completeData(holder: Mapping, dir: string): DataProblem[] {
  const { data } = holder;
  if (typeof data === 'string') {
    const prepared = readPrepared(resolve(dir, data));
    if (prepared === null) {
      const text = `found '${data}', which is no folder with a ${PREPARE_FILE}; allowed: the folder of mod data prepare, or a mapping of text and heldout_text, or of train and heldout`;
      return [{ key: '', text }];
    }
    const glob = (split: string) => `${escapePath(data.replace(/\/+$/, ''))}/${split}-*.bin`;
    holder.data = { train: glob('train'), heldout: glob('heldout'), ...tokensOf(prepared, data) };
  } else if (isMapping(data) && 'train' in data && !('vocab_size' in data) && !('tokenizer' in data)) {
    const [folder] = foldersOf([data.train].flat());
    const prepared = folder === undefined ? null : readPrepared(resolve(dir, folder));
    if (prepared !== null) Object.assign(data, tokensOf(prepared, folder as string));
  }
  return [];
}

function tokensOf({ vocab_size, tokenizer }: Prepared, folder: string): Mapping {
  return {
    vocab_size: new WrittenNumber(vocab_size, String(vocab_size)),
    tokenizer: tokenizer === TOKENIZER_COPY ? join(folder, TOKENIZER_COPY) : tokenizer,
  };
}

/** Whether vocabulary and tokenizer are those by which the token files were made, according to the prepare.json beside them. */
export function preparedProblems(data: DataConfig, dir: string): DataProblem[] {
  if ('text' in data) return [];
  for (const folder of foldersOf([...data.train, ...data.heldout])) {
    const prepared = readPrepared(resolve(dir, folder));
    if (prepared === null) continue;
    const { vocab_size, tokenizer } = prepared;
    const by = `by ${join(folder, PREPARE_FILE)}`;
    const problems: DataProblem[] = [];
    if (data.vocab_size < vocab_size) {
      const text = `found ${data.vocab_size}; allowed: at least ${vocab_size}, the tokens of ${tokenizer} ${by}`;
      problems.push({ key: 'vocab_size', text });
    }
    if (data.tokenizer !== null && !isTokenizerOf(data.tokenizer, prepared, dir)) {
      const own = tokenizer === TOKENIZER_COPY ? join(folder, TOKENIZER_COPY) : tokenizer;
      problems.push({
        key: 'tokenizer',
        text: `found ${data.tokenizer}; allowed: ${own}, which made the tokens ${by}`,
      });
    }
    if (problems.length > 0) return problems;
  }
  return [];
}

function isTokenizerOf(named: string, { tokenizer, tokenizer_sha256 }: Prepared, dir: string): boolean {
  if (isBuiltIn(named) || tokenizer_sha256 === null) return named === tokenizer;
  const path = resolve(dir, named);
  if (!isFile(path)) return true; // a missing tokenizer is another problem
  return createHash('sha256').update(readFileSync(path)).digest('hex') === tokenizer_sha256;
}

/** The folders of patterns without wildcards in them, each once. */
function foldersOf(patterns: readonly unknown[]): string[] {
  const folders = patterns.flatMap((pattern) =>
    typeof pattern !== 'string' || pattern.startsWith('!') ? [] : [dirname(pattern)],
  );
  return [...new Set(folders)].filter((folder) => !isDynamicPattern(folder));
}

/** Null without a prepare.json, or for another file of this name. */
function readPrepared(folder: string): Prepared | null {
  const found = readJson(join(folder, PREPARE_FILE)) as Partial<Prepared> | null;
  return typeof found?.vocab_size === 'number' && typeof found.tokenizer === 'string'
    ? { tokenizer_sha256: null, ...found, vocab_size: found.vocab_size, tokenizer: found.tokenizer }
    : null;
}

function isMapping(found: unknown): found is Mapping {
  return (
    typeof found === 'object' && found !== null && !Array.isArray(found) && !(found instanceof WrittenNumber)
  );
}
