/** The tokenizers by name: bytes, GPT-2's byte-pair encoding, or the path of a tokenizer.json. */
import { resolve } from 'node:path';
import { InputError } from '../errors.js';
import type { DataConfig } from './config.js';
import { isFile } from './files.js';
import { GPT2_VOCABULARY, gpt2Tokenizer } from './gpt2.js';
import type { Tokenizer } from './tokenizer.js';
import { jsonTokenizer } from './tokenizer-json.js';

/** Tokenizers that need no file. */
export const BUILT_IN_TOKENIZERS = ['bytes', 'gpt2'] as const;
export type BuiltInTokenizer = (typeof BUILT_IN_TOKENIZERS)[number];

/** Each byte is a token; NUL ends a document. */
const BYTES: Tokenizer = {
  vocabSize: 256,
  endOfText: 0,
  cuts: 'anywhere',
  encode: async (text) => text,
  decode: async (tokens) => Buffer.from(Uint8Array.from(tokens)).toString(),
  idOf: () => null,
};

const BUILT_IN: Record<BuiltInTokenizer, { vocabSize: number; open: () => Tokenizer | Promise<Tokenizer> }> =
  {
    bytes: { vocabSize: BYTES.vocabSize, open: () => BYTES },
    gpt2: { vocabSize: GPT2_VOCABULARY, open: gpt2Tokenizer },
  };

/** The vocabulary size of a built-in tokenizer; null for the path of a tokenizer.json. */
export function builtInVocabulary(name: string): number | null {
  return isBuiltIn(name) ? BUILT_IN[name].vocabSize : null;
}

/** Whether a tokenizer is built in; otherwise its name is the path of a tokenizer.json. */
export function isBuiltIn(name: string): name is BuiltInTokenizer {
  return (BUILT_IN_TOKENIZERS as readonly string[]).includes(name);
}

/**
 * Opens a tokenizer by its name in a sweep file: `bytes`, `gpt2`, or the path of a tokenizer.json.
 *
 * @param baseDir the folder that a path is relative to
 * @throws InputError for a file that is missing or not a tokenizer.json
 */
export async function openTokenizer(name: string, baseDir: string): Promise<Tokenizer> {
  if (isBuiltIn(name)) return BUILT_IN[name].open();
  const path = resolve(baseDir, name);
  if (!/[./\\]/.test(name) && !isFile(path)) {
    throw new InputError(
      `${name}: neither ${BUILT_IN_TOKENIZERS.join(', ')} nor the path of a tokenizer.json`,
    );
  }
  return jsonTokenizer(path);
}

/**
 * The tokenizer of a sweep's data, stored in its checkpoints: `bytes`, `gpt2` or the absolute path of a tokenizer.json;
 * null if the sweep file has none.
 *
 * @param baseDir the folder of the sweep file
 * @throws InputError for a missing tokenizer.json
 */
export function dataTokenizer({ tokenizer }: DataConfig, baseDir: string): string | null {
  if (tokenizer === null || isBuiltIn(tokenizer)) return tokenizer;
  const path = resolve(baseDir, tokenizer);
  if (!isFile(path)) throw new InputError(`data.tokenizer: ${path}: no such file`);
  return path;
}
