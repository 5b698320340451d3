/** The interface of a long sequence of tokens on disk, read in parts. */

export interface TokenSource {
  /** Number of tokens. */
  readonly tokens: number;
  /** Absolute paths, in the order of the tokens. */
  readonly files: string[];
  /**
   * Fills `out` with tokens start .. start + out.length - 1, which must exist.
   * @throws InputError for a token outside the vocabulary or a file that changed since it was opened
   */
  read(start: number, out: Int32Array): void;
  /** Closes the open files; a later read opens them again. */
  close(): void;
}
