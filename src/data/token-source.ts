/** A sequence of tokens that is read from disk in parts. */
/** A long row of tokens that stays on the disk. */
export interface TokenSource {
  /** How many there are. */
  readonly tokens: number;
  /** Absolute paths, in the order of the tokens. */
  readonly files: string[];
  /**
   * Fills `out` with tokens start .. start + out.length - 1, which must exist.
   * @throws InputError for a token outside the vocabulary or a file that changed since it was opened
   */
  read(start: number, out: Int32Array): void;
  /** Gives the open files back; a later read opens them again. */
  close(): void;
}
