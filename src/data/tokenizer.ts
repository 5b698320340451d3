/** What a tokenizer does: text to token ids and back. */

export interface Tokenizer {
  /** Every id is below this. */
  readonly vocabSize: number;
  /** The token that stands behind a document; null where the tokenizer has none of a usual name. */
  readonly endOfText: number | null;
  /** Ids of UTF-8 text. Nothing is added to them; bytes that are not UTF-8 become U+FFFD, unless bytes are the tokens. */
  encode(text: Uint8Array): Promise<ArrayLike<number>>;
  /** The text of ids; U+FFFD for what is not whole UTF-8. */
  decode(tokens: ArrayLike<number>): Promise<string>;
  /** The id of a token by its own spelling, such as `<|endoftext|>`; null where there is none. */
  idOf(token: string): number | null;
}
