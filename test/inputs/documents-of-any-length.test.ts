/** Long documents have the ids of the whole document, as Python's tokenizers encode it, whatever the tokenizer. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mergedPairs } from '../../src/data/byte-pairs.js';
import { documentPieces } from '../../src/data/documents.js';
import type { Cuts, Tokenizer } from '../../src/data/tokenizer.js';
import { openTokenizer } from '../../src/data/tokenizers.js';
import { writeGpt2Tokenizer, writeTinyTokenizer } from '../support/tokenizer.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-long-documents-'));
afterAll(() => rmSync(folder, { recursive: true }));

const LLAMA3 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const level = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const split = (regex: string) => ({
  type: 'Split',
  pattern: { Regex: regex },
  behavior: 'Isolated',
  invert: false,
});
const token = {
  id: 261,
  content: '<mask>',
  single_word: false,
  lstrip: true,
  rstrip: false,
  normalized: false,
  special: true,
};

/** Changes of the small byte-level tokenizer, and where documents may then be cut. */
const TOKENIZERS: Record<string, [changes: object, cuts: Cuts]> = {
  'GPT-2': [{}, 'lines'],
  'Llama 3': [
    { pre_tokenizer: { type: 'Sequence', pretokenizers: [split(LLAMA3), { ...level, use_regex: false }] } },
    'lines',
  ],
  'Qwen, with NFC': [
    {
      normalizer: { type: 'NFC' },
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [split(LLAMA3.replace('{1,3}', '')), { ...level, use_regex: false }],
      },
    },
    'lines',
  ],
  'another pattern': [
    {
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [split('\\n\\w+|.'), { ...level, use_regex: false }],
      },
    },
    'never',
  ],
  'a prefix space': [{ pre_tokenizer: { ...level, add_prefix_space: true } }, 'never'],
  'no division into words': [{ pre_tokenizer: { ...level, use_regex: false } }, 'never'],
  'a token that takes white space': [{ added_tokens: [token] }, 'never'],
  'Llama 2': [
    {
      normalizer: { type: 'Prepend', prepend: 'a' },
      pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
    },
    'never',
  ],
  'a normalizer that strips': [
    { normalizer: { type: 'Strip', strip_left: true, strip_right: true } },
    'never',
  ],
};

const PIECE_BYTES = 1000;
const long = (line: string) => line.repeat(Math.ceil((5 * PIECE_BYTES) / Buffer.byteLength(line)));
const DOCUMENTS: Record<string, string> = {
  'of lines': long('the man in the house said: “then the rest”\n  and went on.\n'),
  'of one line': long('the man and the rest then '),
  'of one word': long('thean'),
};

async function pieces(text: string, tokenizer: Tokenizer): Promise<number[][]> {
  const path = join(folder, 'document.txt');
  writeFileSync(path, text);
  const format = { content: 'text', compression: null, encoding: 'utf-8', markBytes: 0 } as const;
  const ids: number[][] = [];
  const slice = { path, start: 0, end: null, format };
  for await (const { bytes } of documentPieces(
    slice,
    { field: 'text', separator: null },
    { cuts: tokenizer.cuts, pieceBytes: PIECE_BYTES },
  )) {
    ids.push(Array.from(await tokenizer.encode(bytes)));
  }
  return ids;
}

async function open(name: string): Promise<Tokenizer> {
  const path = join(folder, 'tokenizer.json');
  writeTinyTokenizer(path);
  const json = JSON.parse(readFileSync(path, 'utf8'));
  writeFileSync(path, JSON.stringify({ ...json, ...TOKENIZERS[name]?.[0] }));
  return openTokenizer(path, folder);
}

describe.each(Object.entries(TOKENIZERS))('the tokenizer %s', (name, [, cuts]) => {
  it(`may be cut: ${cuts}; has the ids of the whole document`, async () => {
    const tokenizer = await open(name);
    expect(tokenizer.cuts).toBe(cuts);
    for (const [what, text] of Object.entries(DOCUMENTS)) {
      const found = await pieces(text, tokenizer);
      const whole = await tokenizer.encode(Buffer.from(text));
      expect(Buffer.from(Int32Array.from(found.flat()).buffer), what).toEqual(
        Buffer.from(Int32Array.from(whole).buffer),
      );
      expect(found.length > 1, what).toBe(cuts === 'lines' && what === 'of lines');
    }
  });
});

describe('GPT-2 without a file', () => {
  let own: Tokenizer;
  let rust: Tokenizer;
  beforeAll(async () => {
    await writeGpt2Tokenizer(join(folder, 'gpt2.json'));
    [own, rust] = [await openTokenizer('gpt2', folder), await openTokenizer('gpt2.json', folder)];
  });
  const ids = async (tokenizer: Tokenizer, text: string) =>
    Array.from(await tokenizer.encode(Buffer.from(text)));

  it.each([
    'a\ufeffb \ufeff c\ufeff\n\ufeff',
    'a\u0085b \u0085 c\u0085\n\u0085 d',
    '\u00a0\u2003 \u3000x \u2028y',
    ` ${'long'.repeat(3000)} ${'7'.repeat(6000)}${'!?'.repeat(3000)}${' '.repeat(5000)}end`,
    `'s${'s'.repeat(5000)}'ll`,
    '語'.repeat(5000),
  ])('has the ids of the Rust library for special white space and long words: %#', async (text) => {
    expect(await ids(own, text)).toEqual(await ids(rust, text));
  });

  it.each(Object.entries(DOCUMENTS))('has the ids of the whole document %s', async (_, text) => {
    expect((await pieces(text, own)).flat()).toEqual(await ids(rust, text));
  });
});

it('pairs are merged as by repeated search for the lowest id', () => {
  const tokens = ['a', 'b', 'c', 'ab', 'bc', 'aa', 'aab', 'abab', 'cc', 'abc', 'bca'];
  const known = new Map(tokens.map((text, id) => [text, id]));
  const searched = (word: string): number[] => {
    const parts = [...word];
    for (;;) {
      let best = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const id = known.get(`${parts[i]}${parts[i + 1]}`) ?? Number.POSITIVE_INFINITY;
        const least =
          best === -1 ? Number.POSITIVE_INFINITY : (known.get(`${parts[best]}${parts[best + 1]}`) as number);
        if (id < least) best = i;
      }
      if (best === -1) return parts.map((part) => known.get(part) as number);
      parts.splice(best, 2, `${parts[best]}${parts[best + 1]}`);
    }
  };
  const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(word, (text) => {
      expect(mergedPairs(text, known)).toEqual(searched(text));
    }),
    { numRuns: 500 },
  );
});
