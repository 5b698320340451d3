/** Files given as weights, configuration, tokenizer or sweep file: the values of each, or the message that refuses it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { readModelConfig, tensorSource } from '../../src/checkpoint/model.js';
import { loadSweepFile } from '../../src/config/sweep-file.js';
import { openTokenizer } from '../../src/data/tokenizers.js';
import { encoded, zipOf } from '../support/inputs.js';
import { TINY_VOCABULARY, writeTinyTokenizer } from '../support/tokenizer.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-checkpoint-inputs-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, content: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

/** A safetensors file of one tensor. */
function tensorFile(dtype: string, shape: number[], data: ArrayBufferView): Buffer {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const header = Buffer.from(JSON.stringify({ w: { dtype, shape, data_offsets: [0, bytes.length] } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, bytes]);
}

const HTML = '<!DOCTYPE html><html><title>Sign in</title></html>';
const POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 497774208\n';

describe('weights', () => {
  const values = (dtype: string, data: ArrayBufferView, count: number) =>
    Array.from(
      tensorSource(file('weights.safetensors', tensorFile(dtype, [count], data))).source(
        { name: 'w', shape: [count] },
        () => true,
      ),
    );

  it('in F32 are read as they are', () => {
    expect(values('F32', Float32Array.of(1, -0.1), 2)).toEqual([1, Math.fround(-0.1)]);
  });

  it('in BF16 are the numbers with these upper bits', () => {
    const bits = Uint16Array.of(0x3f80, 0xc000, 0x3eab, 0x0001, 0x7f7f, 0x7f80, 0x8000);
    const largest = 255 * 2 ** 120;
    expect(values('BF16', bits, 7)).toEqual([
      1,
      -2,
      0.333984375,
      2 ** -133,
      largest,
      Number.POSITIVE_INFINITY,
      -0,
    ]);
    expect(values('BF16', Uint16Array.of(0x7fc0), 1)).toEqual([Number.NaN]);
  });

  it('in F16 are the numbers of IEEE 754', () => {
    const bits = Uint16Array.of(0x3c00, 0xc000, 0x3555, 0x0001, 0x0400, 0x7bff, 0xfc00, 0x8000);
    expect(values('F16', bits, 8)).toEqual([
      1,
      -2,
      0.333251953125,
      2 ** -24,
      2 ** -14,
      65_504,
      Number.NEGATIVE_INFINITY,
      -0,
    ]);
    expect(values('F16', Uint16Array.of(0x7e00), 1)).toEqual([Number.NaN]);
  });

  it('in F64 are rounded', () => {
    expect(values('F64', Float64Array.of(0.1), 1)).toEqual([Math.fround(0.1)]);
  });

  const advice = 'save the weights with safetensors, for example with safetensors.torch.save_file';
  it.each<[what: string, content: Uint8Array | string, message: string]>([
    ['a PyTorch checkpoint', zipOf('archive/data.pkl', ''), `it is a PyTorch checkpoint; ${advice}`],
    [
      'an old PyTorch file',
      Buffer.from('\x80\x02\x8a\x0al\xfc\x9cF\xf9\x20j\xa8P\x19.\x80\x02', 'latin1'),
      `it is a PyTorch file of the old format; ${advice}`,
    ],
    ['a GGUF model', Buffer.from('GGUF\x03\0\0\0\0\0\0\0', 'latin1'), `it is a GGUF model; ${advice}`],
    ['an HDF5 file', Buffer.from('\x89HDF\r\n\x1a\n\0\0\0\0', 'latin1'), `it is an HDF5 file; ${advice}`],
    ['arrays of NumPy', zipOf('w.npy', ''), `it is NumPy arrays in a ZIP archive (.npz); ${advice}`],
    ['a file in gzip', gzipSync('weights of a model'), `it is a file compressed with gzip; ${advice}`],
    [
      'a pointer',
      POINTER,
      `it is a pointer of Git LFS, not the file itself: fetch the file with git lfs pull; ${advice}`,
    ],
    ['a web page', HTML, `it is a web page: download the file again; ${advice}`],
    ['JSON', '{"weights": [1, 2, 3]}', `it is text; ${advice}`],
  ])('%s is refused', (_, content, message) => {
    const path = file('weights.safetensors', content);
    expect(() => tensorSource(path)).toThrow(`${path}: not a safetensors file: ${message}`);
  });

  it('of another type are refused', () => {
    const path = file('weights.safetensors', tensorFile('F8_E4M3', [1], Uint8Array.of(1)));
    expect(() => tensorSource(path)).toThrow(
      `${path}: the tensor w: dtype "F8_E4M3" is none of F32, I32, F16, BF16, F64`,
    );
  });
});

describe('config.json', () => {
  it.each<[what: string, content: Uint8Array | string, message: string]>([
    ['an empty file', '', 'it is empty'],
    ['a web page', HTML, 'it is a web page: download the file again'],
    [
      'a pointer',
      POINTER,
      'it is a pointer of Git LFS, not the file itself: fetch the file with git lfs pull',
    ],
    ['UTF-16', encoded('\ufeff{"format": 1}', 'utf-16le'), 'it is text in UTF-16LE: convert it to UTF-8'],
    ['gzip', gzipSync('{}'), 'it is a file compressed with gzip'],
  ])('%s is refused', (_, content, message) => {
    const path = file('config.json', content);
    expect(() => readModelConfig(folder)).toThrow(`${path}: not a checkpoint's config: ${message}`);
  });
});

describe('a sweep file', () => {
  const yaml = 'name: a\nflop_budgets: [1e9]\ndata: {text: a, heldout_text: b}\n';
  it.each<[what: string, content: Uint8Array | string, message: string]>([
    [
      'UTF-16 with a mark',
      encoded(`\ufeff${yaml}`, 'utf-16le'),
      'it is text in UTF-16LE: convert it to UTF-8',
    ],
    [
      'Latin-1',
      Buffer.from(`# café\n${yaml}`, 'latin1'),
      'it looks like text that is not UTF-8, such as Latin-1 or Windows-1252: convert it to UTF-8, for example with iconv -f ISO-8859-1 -t UTF-8',
    ],
    ['gzip', gzipSync(yaml), 'it is a file compressed with gzip'],
    ['a web page', HTML, 'it is a web page: download the file again'],
    ['a ZIP archive', zipOf('a.yaml', yaml), 'it is a ZIP archive'],
  ])('in %s is refused', (_, content, message) => {
    const path = file('sweep.yaml', content);
    expect(() => loadSweepFile(path)).toThrow(`${path}: not a sweep file: ${message}`);
  });

  it('with a mark and CRLF is read', () => {
    const path = file('sweep.yaml', `\ufeff${yaml.replaceAll('\n', '\r\n')}`);
    expect(loadSweepFile(path)).toMatchObject({ name: 'a' });
  });
});

describe('a tokenizer', () => {
  const sentencePiece = Buffer.from('\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02', 'latin1');
  const advice = 'for a tokenizer, name the tokenizer.json that save_pretrained() of transformers writes';
  const letters = Object.fromEntries([...'abcdefghijklmnopqrst'].map((letter, id) => [letter, id]));
  it.each<[what: string, content: Uint8Array | string, message: string]>([
    ['a SentencePiece model', sentencePiece, `it is a SentencePiece model: ${advice}`],
    ['ranks of tiktoken', 'IQ== 0\nIg== 1\nIw== 2\n', `it is a rank file of tiktoken: ${advice}`],
    ['merges.txt', '#version: 0.2\nt h\nth e\n', `it is a list of merges (merges.txt): ${advice}`],
    ['a web page', HTML, 'it is a web page: download the file again'],
    [
      'a pointer',
      POINTER,
      'it is a pointer of Git LFS, not the file itself: fetch the file with git lfs pull',
    ],
    ['UTF-16', encoded('\ufeff{"model": {}}', 'utf-16be'), 'it is text in UTF-16BE: convert it to UTF-8'],
    ['a ZIP archive', zipOf('tokenizer.json', '{}'), 'it is a ZIP archive'],
    [
      'vocab.json',
      JSON.stringify(letters),
      'it has no model.vocab: it is a vocab.json, which has no merges; name the tokenizer.json of the same model',
    ],
    [
      'tokenizer_config.json',
      '{"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024}',
      'it has no model.vocab: it is the configuration of a tokenizer; name the tokenizer.json beside it',
    ],
  ])('%s is refused', async (_, content, message) => {
    const path = file('tokenizer.json', content);
    await expect(openTokenizer('tokenizer.json', folder)).rejects.toThrow(
      `${path}: not a tokenizer.json: ${message}`,
    );
  });

  it('with a byte order mark is read', async () => {
    const path = file('marked.json', '');
    writeTinyTokenizer(path);
    writeFileSync(path, `\ufeff${readFileSync(path, 'utf8')}`);
    expect((await openTokenizer(path, folder)).vocabSize).toBe(TINY_VOCABULARY);
  });
});
