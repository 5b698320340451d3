/** The formats that are recognised by first bytes: their categories, and what is known of each. */
import type { Ends } from './signature-checks.js';

/** What kind of content a format has. */
export const CATEGORIES = {
  archive: 'unpack it and name the files in it',
  compressed: 'decompress it first',
  table: 'convert it to Parquet or JSON Lines',
  arrays: 'it contains numbers; text files or token files are needed',
  weights: 'it contains the weights of a model; text files or token files are needed',
  tokenizer: 'for a tokenizer, name the tokenizer.json that save_pretrained() of transformers writes',
  image: 'leave it out, for example with a pattern that starts with !',
  media: 'leave it out, for example with a pattern that starts with !',
  program: 'leave it out, for example with a pattern that starts with !',
  font: 'leave it out, for example with a pattern that starts with !',
  document: 'convert it to plain text first',
  database: 'export its text as JSON Lines',
  tokens: 'convert its tokens to a shard of llm.c, whose magic number is 20240520 or 20240801',
  pointer: 'fetch the file that it stands for',
  encrypted: 'decrypt it first',
  other: 'it contains neither text nor tokens',
} as const;

export type Category = keyof typeof CATEGORIES;

/** The formats that this program reads; each other format is only recognised. */
export type ReadableFormat = 'gzip' | 'zstd' | 'xz' | 'bzip2' | 'parquet' | 'npy' | 'shard' | 'safetensors';

export interface Format {
  /** With its article: `a PNG image`. */
  name: string;
  category: Category;
  /** What to do, if it is more specific than the advice of the category. */
  advice?: string;
  id?: ReadableFormat;
}

/** How a format is recognised. */
export interface Signature extends Format {
  /** Bytes as characters of Latin-1. `head` may hold them at any of these positions, by default 0. */
  magic: string;
  at?: readonly number[];
  /** A further condition, for bytes that other files begin with as well. */
  confirm?: (ends: Ends) => boolean;
  /** Whether a file of this format may consist of printable text; the magic of the others counts only in a binary file. */
  isText?: true;
}

/** A signature without its category. */
export type Row = [name: string, magic: string, more?: Omit<Signature, 'name' | 'magic' | 'category'>];
