/** Tokenizers: known ids, round trips, agreement with a second implementation, very long words, invalid files. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Tokenizer } from '../../src/data/tokenizer.js';
import { tokenizerJsonVocabSize } from '../../src/data/tokenizer-json.js';
import { dataTokenizer, openTokenizer } from '../../src/data/tokenizers.js';
import { InputError } from '../../src/errors.js';
import { timed } from '../support/cpu.js';
import {
  TINY_END_OF_TEXT,
  TINY_VOCABULARY,
  writeGpt2Tokenizer,
  writeTinyTokenizer,
} from '../support/tokenizer.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-tokenizer-'));
afterAll(() => rmSync(folder, { recursive: true }));
const tiny = join(folder, 'tiny.json');
writeTinyTokenizer(tiny);

const ids = async (tokenizer: Tokenizer, text: string) =>
  Array.from(await tokenizer.encode(Buffer.from(text)));
const anyText = fc.string({ unit: 'binary', maxLength: 200 });

describe.each(['bytes', 'gpt2', 'tiny.json'])('%s', (name) => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await openTokenizer(name, folder);
  });

  it('round-trips any text, with ids below its vocabulary size', async () => {
    await fc.assert(
      fc.asyncProperty(anyText, async (text) => {
        const tokens = await ids(tokenizer, text);
        expect(await tokenizer.decode(tokens)).toBe(text);
        expect(Math.max(0, ...tokens)).toBeLessThan(tokenizer.vocabSize);
      }),
      { numRuns: 200 },
    );
  });

  it('keeps a byte order mark, and carries no partial character over to the next text', async () => {
    expect(await tokenizer.decode(await ids(tokenizer, '\ufeffa'))).toBe('\ufeffa');
    const emoji = await ids(tokenizer, '\u{1f600}');
    expect(await tokenizer.decode(emoji.slice(0, 1))).toMatch(/^\ufffd+$/);
    expect(await tokenizer.decode(await ids(tokenizer, 'a'))).toBe('a');
  });
});

it('bytes are their own tokens, including invalid UTF-8', async () => {
  const bytes = await openTokenizer('bytes', folder);
  expect(Array.from(await bytes.encode(Uint8Array.of(0, 200, 255)))).toEqual([0, 200, 255]);
  expect(bytes).toMatchObject({ vocabSize: 256, endOfText: 0 });
});

describe('GPT-2', () => {
  it.each([
    ['Hello world', [15496, 995]],
    ['The quick brown fox jumps over the lazy dog', [464, 2068, 7586, 21831, 18045, 625, 262, 16931, 3290]],
    ['<|endoftext|>', [27, 91, 437, 1659, 5239, 91, 29]], // ordinary text within a document
    ['', []],
  ])('%j is encoded as %j', async (text, expected) => {
    expect(await ids(await openTokenizer('gpt2', folder), text)).toEqual(expected);
  });

  it('agrees with the Rust library built from the same ranks', async () => {
    await writeGpt2Tokenizer(join(folder, 'gpt2.json'));
    const [ours, rust] = [await openTokenizer('gpt2', folder), await openTokenizer('gpt2.json', folder)];
    expect(rust).toMatchObject({ vocabSize: ours.vocabSize, endOfText: ours.endOfText });
    for (const path of ['src/data/documents.ts', 'package-lock.json', 'test/golden/README.md']) {
      const text = readFileSync(path, 'utf8');
      expect(await ids(ours, text)).toEqual(await ids(rust, text));
    }
    const text = anyText.filter((one) => !one.includes('<|endoftext|>'));
    await fc.assert(
      fc.asyncProperty(text, async (one) => {
        expect(await ids(ours, one)).toEqual(await ids(rust, one));
      }),
      { numRuns: 200 },
    );
  });

  it.each(['a', '7', '=', '語'])(
    'encodes 250 kB of %j within seconds and decodes it again',
    async (letter) => {
      const gpt2 = await openTokenizer('gpt2', folder);
      const text = `before ${letter.repeat(250_000 / Buffer.byteLength(letter))} after`;
      const { result: tokens, seconds } = await timed(() => ids(gpt2, text));
      expect(seconds).toBeLessThan(15); // 30 s if long words were not cut
      expect(await gpt2.decode(tokens)).toBe(text);
    },
  );

  it('names an unknown token id', async () => {
    await expect((await openTokenizer('gpt2', folder)).decode([50257])).rejects.toThrow('no token 50257');
  });
});

describe('a tokenizer.json', () => {
  it('applies its merges and ignores its truncation', async () => {
    const tokenizer = await openTokenizer('tiny.json', folder);
    expect(tokenizer).toMatchObject({ vocabSize: TINY_VOCABULARY, endOfText: TINY_END_OF_TEXT });
    expect(await ids(tokenizer, 'then the man')).toEqual([257, 110, 258, 32, 109, 259]);
    expect(await ids(tokenizer, 'x'.repeat(100))).toHaveLength(100);
    expect(tokenizer.idOf('<|endoftext|>')).toBe(TINY_END_OF_TEXT);
    expect(tokenizer.idOf('</s>')).toBeNull();
  });

  it('has one token more than its largest id, among listed, mapped and added ones', () => {
    const size = (json: unknown) => {
      const path = join(folder, 'size.json');
      writeFileSync(path, JSON.stringify(json));
      return tokenizerJsonVocabSize(path);
    };
    expect(size({ model: { vocab: { a: 0, b: 9 } } })).toBe(10);
    expect(size({ model: { vocab: { a: 0 } }, added_tokens: [{ id: 5 }] })).toBe(6);
    expect(
      size({
        model: {
          vocab: [
            ['a', -1],
            ['b', -2],
          ],
        },
      }),
    ).toBe(2); // Unigram
  });

  it.each([
    ['{', 'not a tokenizer.json'],
    ['[]', 'it has no model.vocab'],
    ['null', 'it has no model.vocab'],
    ['{"model": {"vocab": {"a": 0}}}', 'not a tokenizer.json'], // lacks the library's other required keys
  ])('with the content %s is rejected: %s', async (text, message) => {
    const path = join(folder, 'wrong.json');
    writeFileSync(path, text);
    await expect(openTokenizer('wrong.json', folder)).rejects.toThrow(message);
    await expect(openTokenizer(path, '/')).rejects.toThrow(InputError);
  });

  it('is rejected with its path if it is missing', async () => {
    const path = join(folder, 'nowhere.json');
    await expect(openTokenizer('nowhere.json', folder)).rejects.toThrow(`${path}: cannot be read`);
  });
});

it('the tokenizer of a sweep is a name, an existing file, or unknown', () => {
  const data = (tokenizer: string | null) => ({
    train: ['a'],
    heldout: ['b'],
    vocab_size: 9,
    tokenizer,
    token_bytes: 2 as const,
  });
  expect(dataTokenizer(data('gpt2'), folder)).toBe('gpt2');
  expect(dataTokenizer(data(null), folder)).toBeNull();
  expect(dataTokenizer(data('tiny.json'), folder)).toBe(tiny);
  expect(() => dataTokenizer(data('nowhere.json'), folder)).toThrow(join(folder, 'nowhere.json'));
});
