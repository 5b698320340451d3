/** The interface of a tokenizer: text to token ids and back. */

export interface Tokenizer {
  /** Every id is below this. */
  readonly vocabSize: number;
  /** The token after each document; null if the tokenizer has none with a usual name. */
  readonly endOfText: number | null;
  /** Ids of UTF-8 text, without special tokens. Invalid UTF-8 becomes U+FFFD, unless the tokens are bytes. */
  encode(text: Uint8Array): Promise<ArrayLike<number>>;
  /** The text of ids; U+FFFD for invalid UTF-8. */
  decode(tokens: ArrayLike<number>): Promise<string>;
  /** The id of a token such as `<|endoftext|>`; null if there is none. */
  idOf(token: string): number | null;
}
