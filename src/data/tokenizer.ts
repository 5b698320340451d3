/** The interface of a tokenizer: text to token ids and back. */

/**
 * `anywhere`: after any byte; `lines`: after a newline between a visible character and a letter of ASCII; `never`: ids depend on
 * the whole document.
 */
export type Cuts = 'anywhere' | 'lines' | 'never';

export interface Tokenizer {
  /** Every id is below this. */
  readonly vocabSize: number;
  /** The token after each document; null if the tokenizer has none with a usual name. */
  readonly endOfText: number | null;
  /** Where a document may be divided so that the ids of the pieces are those of the document. */
  readonly cuts: Cuts;
  /** Ids of UTF-8 text, without special tokens. Invalid UTF-8 becomes U+FFFD, unless the tokens are bytes. */
  encode(text: Uint8Array): Promise<ArrayLike<number>>;
  /** The text of ids; U+FFFD for invalid UTF-8. */
  decode(tokens: ArrayLike<number>): Promise<string>;
  /** The id of a token such as `<|endoftext|>`; null if there is none. */
  idOf(token: string): number | null;
}
