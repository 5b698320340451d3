/** GPT-2's byte-pair encoding with the ranks of the gpt-tokenizer package; it needs no file and no download. */
import { InputError } from '../errors.js';
import type { Tokenizer } from './tokenizer.js';

const END_OF_TEXT = '<|endoftext|>';
const END_OF_TEXT_ID = 50256;
export const GPT2_VOCABULARY = END_OF_TEXT_ID + 1;

/**
 * The merge loop takes quadratic time in a word's length, so longer runs of letters, digits or other characters are split,
 * as Llama 3's reference tokenizer splits runs of 25,000. Ordinary text has no such words.
 */
const LONGEST_WORD = 4096;
const LONG_WORD = new RegExp(
  ['\\p{L}', '\\p{N}', '[^\\s\\p{L}\\p{N}]'].map((kind) => `(?<!${kind})${kind}{${LONGEST_WORD}}`).join('|'),
  'u',
);

/** Special tokens that are spelled out in a text are encoded as text. */
const NO_SPECIALS = { allowedSpecial: new Set<string>(), disallowedSpecial: new Set<string>() };

export async function gpt2Tokenizer(): Promise<Tokenizer> {
  const [{ encode, setMergeCacheSize }, { default: ranks }] = await Promise.all([
    import('gpt-tokenizer/encoding/r50k_base'),
    import('gpt-tokenizer/bpeRanks/r50k_base'),
  ]);
  // The package's cache of merged words is full after 10 MB and then slows encoding down: 3.1 MB/s with it, 4.6 without.
  setMergeCacheSize(0);
  return {
    vocabSize: GPT2_VOCABULARY,
    endOfText: END_OF_TEXT_ID,
    encode: async (bytes) => {
      const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
      const words = mayHaveLongWord(bytes) ? splitLongWords(text) : [text];
      const pieces = words.map((word) => encode(word, NO_SPECIALS));
      return pieces.length === 1 ? (pieces[0] as number[]) : pieces.flat();
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

/** A fast test, false for nearly all text: whether LONGEST_WORD bytes in a row contain no ASCII white space. */
function mayHaveLongWord(bytes: Uint8Array): boolean {
  let run = 0;
  for (let i = 0; i < bytes.length; i++) {
    run = (bytes[i] as number) <= 0x20 ? 0 : run + 1;
    if (run >= LONGEST_WORD) return true;
  }
  return false;
}

function splitLongWords(text: string): string[] {
  const pieces: string[] = [];
  let rest = text;
  for (let match = LONG_WORD.exec(rest); match !== null; match = LONG_WORD.exec(rest)) {
    const end = match.index + match[0].length;
    pieces.push(rest.slice(0, end));
    rest = rest.slice(end);
  }
  pieces.push(rest);
  return pieces;
}
