/** Where a run's tokens come from. */

/** `data` of a sweep file: paths and globs relative to that file. */
export type DataConfig =
  | { text: string[]; heldout_text: string[]; tokenizer: string; vocab_size: number }
  | { train: string[]; heldout: string[]; vocab_size: number; tokenizer: string | null; token_bytes: 1 | 2 };

export type DataRole = 'train' | 'heldout';

/** A data file as it was found. */
export interface DataFile {
  bytes: number;
  /** See `contentHash`. */
  hash: string;
}

/** The files that the globs of a DataConfig match, by path relative to the sweep file's folder. */
export type DataFiles = Record<DataRole, Record<string, DataFile>>;
