/** Rates from text to shards, in CPU time, which a busy machine does not change. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { type PrepareSettings, preparePart } from '../../src/data/prepare.js';
import { openTokenizer } from '../../src/data/tokenizers.js';
import { openTokenFile } from '../../src/data/tokens.js';
import { timed } from '../support/cpu.js';
import { writeGpt2Tokenizer } from '../support/tokenizer.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-rates-'));
afterAll(() => rmSync(folder, { recursive: true }));

const SETTINGS: PrepareSettings = {
  format: 'mod-tokens-1',
  tokenizer: 'bytes',
  tokenizer_sha256: null,
  vocab_size: 256,
  token_bytes: 2,
  end_of_text: 0,
  field: 'text',
  separator: null,
  heldout_share: 0.01,
  seed: 0,
  part_bytes: 2 ** 30,
};

const JSON_LINES = { content: 'jsonl', compression: null, encoding: 'utf-8', markBytes: 0 } as const;

/** A package's JavaScript, repeated, in documents of a few kB. */
const SOURCE = readFileSync('node_modules/@tensorflow/tfjs-core/dist/tf-core.fesm.js', 'utf8');
const DOCUMENTS = SOURCE.match(/.{1,5000}/gs) as string[];

async function bytesPerSecond(tokenizer: string, megabytes: number): Promise<number> {
  const path = join(folder, 'input.jsonl');
  const once = DOCUMENTS.map((text) => `${JSON.stringify({ text })}\n`).join('');
  const copies = Math.ceil((megabytes * 1e6) / SOURCE.length);
  writeFileSync(path, once.repeat(copies));
  const opened = await openTokenizer(tokenizer, folder);
  const settings = { ...SETTINGS, tokenizer, vocab_size: opened.vocabSize };
  const part = { index: 0, slices: [{ path, start: 0, end: null, format: JSON_LINES }] };
  mkdirSync(join(folder, 'parts'), { recursive: true });
  const { result, seconds } = await timed(() => preparePart(part, settings, opened, folder));
  const rate = result.bytes / seconds;
  console.log(`${tokenizer}: ${(rate / 1e6).toFixed(1)} MB per second of CPU time, JSONL to shards`);
  return rate;
}

it('byte tokens are written at 20 MB/s per core or more', async () => {
  expect(await bytesPerSecond('bytes', 40)).toBeGreaterThan(20e6);
});

it('byte-pair encodings are written at 0.1 MB/s per core or more; the rates are printed', async () => {
  await writeGpt2Tokenizer(join(folder, 'tokenizer.json'));
  for (const tokenizer of ['gpt2', 'tokenizer.json']) {
    expect(await bytesPerSecond(tokenizer, 3)).toBeGreaterThan(1e5);
  }
});

it('a training run reads text as bytes at 20 MB/s per core or more', async () => {
  const path = join(folder, 'text.txt');
  writeFileSync(path, SOURCE.repeat(20));
  const source = openTokenFile(path, 1, 256);
  const tokens = new Int32Array(source.tokens);
  const { seconds } = await timed(() => source.read(0, tokens));
  source.close();
  const rate = tokens.length / seconds;
  console.log(`reading tokens: ${(rate / 1e6).toFixed(1)} MB per second of CPU time`);
  expect(rate).toBeGreaterThan(20e6);
});
