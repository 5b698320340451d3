/** A small tokenizer.json: byte-level BPE like GPT-2's, with four merges and an end-of-text token. */
import { writeFileSync } from 'node:fs';

/** GPT-2's spelling of bytes: printable ones as themselves, the others from U+0100 on. */
function byteSpellings(): string[] {
  const isPrintable = (byte: number) =>
    (byte > 32 && byte < 127) || (byte > 160 && byte !== 173 && byte < 256);
  let unprintable = 0;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(isPrintable(byte) ? byte : 256 + unprintable++),
  );
}

const MERGES: [string, string][] = [
  ['t', 'h'],
  ['th', 'e'],
  ['Ġ', 'the'],
  ['a', 'n'],
];

/** 256 bytes, `th`, `the`, ` the`, `an`, `<|endoftext|>`; with fewer `tokens`, only the first bytes. */
export const TINY_VOCABULARY = 261;
export const TINY_END_OF_TEXT = 260;

export function writeTinyTokenizer(path: string, tokens: number = TINY_VOCABULARY): void {
  const whole = tokens === TINY_VOCABULARY;
  const spellings = [...byteSpellings(), ...MERGES.map((pair) => pair.join(''))];
  const vocab = Object.fromEntries(spellings.slice(0, tokens).map((spelling, id) => [spelling, id]));
  const json = tokenizerJson(vocab, whole ? MERGES : [], whole ? TINY_END_OF_TEXT : null);
  writeFileSync(path, JSON.stringify(json));
}

function tokenizerJson(vocab: Record<string, number>, merges: [string, string][], endOfText: number | null) {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const level = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    // Some files set a truncation; documents are longer than that.
    truncation: { direction: 'Right', max_length: 8, strategy: 'LongestFirst', stride: 0 },
    padding: null,
    added_tokens: endOfText === null ? [] : [{ id: endOfText, content: '<|endoftext|>', ...flags }],
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
      vocab,
      merges,
    },
  };
}

/** GPT-2's tokenizer.json, built from gpt-tokenizer's ranks: a token's merge is the last one by lower ranks. */
export async function writeGpt2Tokenizer(path: string): Promise<void> {
  const { default: ranks } = await import('gpt-tokenizer/bpeRanks/r50k_base');
  const tokens = ranks.map((token) => Buffer.from(token as string).toString('latin1'));
  const rankOf = new Map(tokens.map((token, rank) => [token, rank]));
  const spellings = byteSpellings();
  const spell = (token: string) => Array.from(token, (byte) => spellings[byte.charCodeAt(0)]).join('');
  const merges = tokens.flatMap((token, rank) => {
    if (token.length === 1) return [];
    const parts = [...token];
    while (parts.length > 2) {
      const pairs = parts
        .slice(1)
        .map((part, i) => rankOf.get(`${parts[i]}${part}`) ?? Number.POSITIVE_INFINITY);
      const least = pairs.reduce((best, pair, i) => (pair < (pairs[best] as number) ? i : best), 0);
      if ((pairs[least] as number) >= rank) throw new Error(`no merge makes token ${rank}`);
      parts.splice(least, 2, `${parts[least]}${parts[least + 1]}`);
    }
    return [parts.map(spell) as [string, string]];
  });
  const vocab = Object.fromEntries(tokens.map((token, rank) => [spell(token), rank]));
  writeFileSync(path, JSON.stringify(tokenizerJson(vocab, merges, tokens.length)));
}
