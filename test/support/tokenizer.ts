/** A tokenizer.json small enough to read: byte-level BPE as GPT-2's, with a few merges and an end of text. */
import { writeFileSync } from 'node:fs';

/** GPT-2's spelling of bytes: those that print are themselves, the others follow from U+0100 on. */
function byteSpellings(): string[] {
  const prints = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173 && byte < 256);
  let unprinted = 0;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(prints(byte) ? byte : 256 + unprinted++),
  );
}

const MERGES: [string, string][] = [
  ['t', 'h'],
  ['th', 'e'],
  ['Ġ', 'the'],
  ['a', 'n'],
];

/** 256 bytes, `th`, `the`, ` the`, `an`, then `<|endoftext|>`; with fewer `tokens` the first so many bytes alone. */
export const TINY_VOCABULARY = 261;
export const TINY_END_OF_TEXT = 260;

export function writeTinyTokenizer(path: string, tokens: number = TINY_VOCABULARY): void {
  const whole = tokens === TINY_VOCABULARY;
  const spellings = [...byteSpellings(), ...MERGES.map((pair) => pair.join(''))];
  const end = {
    id: TINY_END_OF_TEXT,
    content: '<|endoftext|>',
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  };
  const level = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: whole ? [end] : [],
    normalizer: null,
    pre_tokenizer: level,
    post_processor: null,
    decoder: level,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      vocab: Object.fromEntries(spellings.slice(0, tokens).map((spelling, id) => [spelling, id])),
      merges: whole ? MERGES : [],
    },
  };
  writeFileSync(path, JSON.stringify(tokenizer));
}
