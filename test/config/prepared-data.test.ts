/** `data` by the prepare.json of mod data prepare: the folder alone, what a mapping leaves out, what it contradicts. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseSweepFile, type SweepFile } from '../../src/config/sweep-file.js';
import { InputError } from '../../src/errors.js';
import { configHash } from '../../src/files/canonical.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mod-prepared-'));
  const prepared = (name: string, settings: object) => {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, 'prepare.json'), JSON.stringify(settings));
  };
  prepared('gpt2', { tokenizer: 'gpt2', tokenizer_sha256: null, vocab_size: 50257 });
  prepared('other (1)', { tokenizer: 'tokenizer.json', tokenizer_sha256: 'a', vocab_size: 300 });
  prepared('foreign', { steps: 3 });
});
afterAll(() => rmSync(folder, { recursive: true }));

const parse = (data: string): SweepFile =>
  parseSweepFile(join(folder, 's.yaml'), `name: a\nflop_budgets: [1e15]\n${data}\n`);
const dataOf = (data: string) => parse(data).products.map((product) => product.data);

it('a folder is the mapping that mod data prepare prints', () => {
  const written = dataOf(
    'data: {train: gpt2/train-*.bin, heldout: gpt2/heldout-*.bin, vocab_size: 50257, tokenizer: gpt2}',
  );
  for (const data of [
    'data: gpt2',
    'data: gpt2/',
    'data: {train: gpt2/train-*.bin, heldout: gpt2/heldout-*.bin}',
    'grids: [{data: gpt2}]',
  ]) {
    expect(dataOf(data), data).toEqual(written);
    expect(configHash(dataOf(data))).toBe(configHash(written));
  }
  expect(dataOf("data: 'other (1)'")).toEqual([
    {
      train: ['other \\(1\\)/train-*.bin'],
      heldout: ['other \\(1\\)/heldout-*.bin'],
      vocab_size: 300,
      tokenizer: 'other (1)/tokenizer.json',
      token_bytes: 2,
    },
  ]);
});

it('a larger vocabulary, or no tokenizer, is the choice of the file', () => {
  const shards = 'train: gpt2/train-*.bin, heldout: gpt2/heldout-*.bin';
  expect(dataOf(`data: {${shards}, vocab_size: 50304}`)).toMatchObject([
    { vocab_size: 50304, tokenizer: null },
  ]);
  expect(dataOf('data: {train: foreign/a.bin, heldout: foreign/b.bin, vocab_size: 5}')).toMatchObject([
    { vocab_size: 5 },
  ]);
});

it.each([
  ['data: nowhere', "3:7: data: found 'nowhere', which is no folder with a prepare.json; allowed: "],
  ['data: foreign', "3:7: data: found 'foreign', which is no folder with a prepare.json; allowed: "],
  [
    'grids: [{data: nowhere}]',
    "3:16: grids[0].data: found 'nowhere', which is no folder with a prepare.json; ",
  ],
  [
    'data: {train: gpt2/t.bin, heldout: gpt2/h.bin, vocab_size: 256}',
    '3:60: data.vocab_size: found 256; allowed: at least 50257, the tokens of gpt2 by gpt2/prepare.json',
  ],
  [
    'data: {train: gpt2/t.bin, heldout: gpt2/h.bin, vocab_size: 50257, tokenizer: bytes}',
    '3:78: data.tokenizer: found bytes; allowed: gpt2, which made the tokens by gpt2/prepare.json',
  ],
])('%s: %s', (data, message) => {
  expect(() => parse(data)).toThrow(InputError);
  expect(() => parse(data)).toThrow(message);
});
