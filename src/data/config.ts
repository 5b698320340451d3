/** Where a run's tokens come from. */
import type { TokenWidth } from '../files/guess.js';

/** The field that holds the text unless another is named. */
export const TEXT_FIELD = 'text';

/** `data` of a sweep file: paths and globs relative to that file. */
export type DataConfig =
  | ({
      text: string[];
      heldout_text: string[];
      tokenizer: string;
      vocab_size: number;
      /** The field of JSON Lines that holds the text; absent: TEXT_FIELD. */
      field?: string;
    } & Checks)
  | ({
      train: string[];
      heldout: string[];
      vocab_size: number;
      tokenizer: string | null;
      token_bytes: TokenWidth;
    } & Checks);

interface Checks {
  /** Whether to read what the statistics of its bytes reject; absent: no. */
  unchecked?: true;
}

export type DataRole = 'train' | 'heldout';

/** A data file as it was found. */
export interface DataFile {
  bytes: number;
  /** See `contentHash`. */
  hash: string;
}

/** The files that the globs of a DataConfig match, by path relative to the sweep file's folder. */
export type DataFiles = Record<DataRole, Record<string, DataFile>>;
