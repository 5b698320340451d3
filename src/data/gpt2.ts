/** GPT-2's byte-pair encoding with the ranks of the gpt-tokenizer package; it needs no file and no download. */
import { InputError } from '../errors.js';
import { mergedPairs } from './byte-pairs.js';
import type { Tokenizer } from './tokenizer.js';

const END_OF_TEXT = '<|endoftext|>';
const END_OF_TEXT_ID = 50256;
export const GPT2_VOCABULARY = END_OF_TEXT_ID + 1;

/** The package's merge loop takes quadratic time in a word's length: longer words are merged here. */
const LONGEST_WORD = 512;
/** White space only for JavaScript, or not for it: U+FEFF and U+0085 divide words in another way than in Python. */
const OTHER_SPACE = /[\u0085\ufeff]/;
/** The words of GPT-2 (openai/gpt-2, src/encoder.py), with the white space of Unicode, as Python's regex and Rust have it. */
const WORDS =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** Special tokens that are spelled out in a text are encoded as text. */
const NO_SPECIALS = { allowedSpecial: new Set<string>(), disallowedSpecial: new Set<string>() };

export async function gpt2Tokenizer(): Promise<Tokenizer> {
  const [{ encode, setMergeCacheSize }, { default: ranks }] = await Promise.all([
    import('gpt-tokenizer/encoding/r50k_base'),
    import('gpt-tokenizer/bpeRanks/r50k_base'),
  ]);
  // The package's cache of merged words is full after 10 MB and then slows encoding down: 3.1 MB/s with it, 4.6 without.
  setMergeCacheSize(0);
  const ids = new Map(ranks.map((_, id) => [Buffer.from(bytesOf(ranks, id)).toString('latin1'), id]));
  return {
    vocabSize: GPT2_VOCABULARY,
    endOfText: END_OF_TEXT_ID,
    cuts: 'lines',
    encode: async (bytes) => {
      const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
      if (!mayHaveLongWord(bytes) && !OTHER_SPACE.test(text)) return encode(text, NO_SPECIALS);
      const words = text.match(WORDS) ?? [];
      return words.flatMap((word) => mergedPairs(Buffer.from(word).toString('latin1'), ids));
    },
    // The package's own decode carries the bytes of a truncated character over to its next call.
    decode: async (tokens) => Buffer.concat(Array.from(tokens, (token) => bytesOf(ranks, token))).toString(),
    idOf: (token) => (token === END_OF_TEXT ? END_OF_TEXT_ID : null),
  };
}

function bytesOf(ranks: readonly (string | readonly number[])[], token: number): Uint8Array {
  if (token === END_OF_TEXT_ID) return Buffer.from(END_OF_TEXT);
  const bytes = ranks[token];
  if (bytes === undefined) throw new InputError(`GPT-2 has no token ${token}: its last is ${END_OF_TEXT_ID}`);
  return typeof bytes === 'string' ? Buffer.from(bytes) : Uint8Array.from(bytes);
}

/** A fast test, false for nearly all text: whether LONGEST_WORD bytes in a row are all ASCII white space, or none of them is. */
function mayHaveLongWord(bytes: Uint8Array): boolean {
  let run = 0;
  let wasSpace = false;
  for (let i = 0; i < bytes.length; i++) {
    const isSpace = (bytes[i] as number) <= 0x20;
    run = isSpace === wasSpace ? run + 1 : 1;
    wasSpace = isSpace;
    if (run >= LONGEST_WORD) return true;
  }
  return false;
}
