/** Token sources: text as bytes, shards by their header, raw files; any read equals that slice of the whole. */
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TokenSource } from '../../src/data/token-source.js';
import { openTokenFile, openTokens } from '../../src/data/tokens.js';
import { InputError } from '../../src/errors.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mod-tokens-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, content);
  return path;
}

function shard(magic: number, tokens: number[], version = 1, count = tokens.length): Uint8Array {
  const header = new Int32Array(256);
  header.set([magic, version, count]);
  const body = magic === 20240520 ? Uint16Array.from(tokens) : Uint32Array.from(tokens);
  return Buffer.concat([new Uint8Array(header.buffer), new Uint8Array(body.buffer)]);
}

function all(source: TokenSource): number[] {
  const out = new Int32Array(source.tokens);
  source.read(0, out);
  return [...out];
}

const text = (patterns: string[], more: { field?: string; unchecked?: true } = {}) =>
  openTokens(
    { text: patterns, heldout_text: ['none'], tokenizer: 'bytes', vocab_size: 256, ...more },
    'train',
    folder,
  );
const shards = (patterns: string[], vocab_size = 1000, token_bytes: 1 | 2 = 2) =>
  openTokens(
    { train: ['none'], heldout: patterns, vocab_size, tokenizer: null, token_bytes },
    'heldout',
    folder,
  );

describe('text', () => {
  it('is the bytes of each file once, in the order of the paths, with a NUL after each', async () => {
    file('text/b.txt', 'B');
    file('text/a.txt', 'Aé');
    file('text/sub/c.txt', 'C');
    const source = await text(['text/b.txt', 'text/**/*.txt']);
    expect(Buffer.from(all(source)).toString()).toBe('Aé\0B\0C\0');
    expect(source.files.map((path) => path.slice(folder.length))).toEqual([
      '/text/a.txt',
      '/text/b.txt',
      '/text/sub/c.txt',
    ]);
  });

  it('accepts names with pattern characters, absolute patterns, parent folders and exclusions', async () => {
    file('odd/[x](1).txt', 'odd');
    file('odd/y.txt', 'y');
    mkdirSync(join(folder, 'odd/in'));
    expect(Buffer.from(all(await text(['odd/[x](1).txt']))).toString()).toBe('odd\0');
    expect(Buffer.from(all(await text([join(folder, 'odd/y*')]))).toString()).toBe('y\0');
    expect(Buffer.from(all(await text(['odd/in/../*', '!odd/y.txt']))).toString()).toBe('odd\0');
  });

  it('skips an empty file among others, and rejects one that is named or the only one', async () => {
    file('empty/a.txt', '');
    file('empty/b.txt', 'b');
    file('hollow/a.txt', '');
    expect(Buffer.from(all(await text(['empty/*']))).toString()).toBe('b\0');
    await expect(text(['empty/a.txt', 'empty/b.txt'])).rejects.toThrow(
      `${join(folder, 'empty/a.txt')}: the file is empty`,
    );
    await expect(text(['hollow/*'])).rejects.toThrow('the file is empty');
  });

  it('rejects and names a pattern without matches, even if others match', async () => {
    file('some/a.txt', 'a');
    await expect(text(['some/*', 'missing/*.txt'])).rejects.toThrow(/^no file matches 'missing\/\*\.txt'/);
    await expect(text([])).rejects.toThrow(InputError);
  });
});

describe('token files', () => {
  it('reads shards of both magics and raw files, recognized file by file', async () => {
    file('mix/1.bin', shard(20240520, [1, 999]));
    file('mix/2.bin', shard(20240801, [2, 70_000], 7));
    file('mix/3.bin', Uint8Array.of(3, 0, 4, 1));
    expect(all(await shards(['mix/*.bin'], 100_000))).toEqual([1, 999, 2, 70_000, 3, 260]);
    expect(all(openTokenFile(join(folder, 'mix/3.bin'), 1, 256))).toEqual([3, 0, 4, 1]);
  });

  const bad: [string, Uint8Array, RegExp][] = [
    ['an empty file', new Uint8Array(), /the file is empty/],
    ['half a token', Uint8Array.of(1, 0, 2), /3 bytes are not a multiple of token_bytes, 2/],
    ['a cut shard', shard(20240520, [1, 2, 3]).subarray(0, 1028), /truncated.*3 tokens.*1030 bytes.*1028/],
    ['a cut header', shard(20240520, [1]).subarray(0, 500), /truncated/],
    ['bytes after the tokens', shard(20240520, [1, 2, 3], 1, 2), /extra bytes after its tokens/],
    ['a newer version', shard(20240520, [1], 2), /version 2/],
    ['no tokens', shard(20240520, []), /0 tokens/],
    ['a negative number of tokens', shard(20240801, [1], 7, -1), /-1 tokens/],
  ];
  it.each(bad)('rejects %s and names the file', (name, content, message) => {
    const path = file(`bad/${name}`, content);
    expect(() => openTokenFile(path, 2, 1000)).toThrow(InputError);
    expect(() => openTokenFile(path, 2, 1000)).toThrow(message);
    expect(() => openTokenFile(path, 2, 1000)).toThrow(path);
  });

  it('rejects a token outside the vocabulary when it is read, with its position', () => {
    const path = file('vocabulary.bin', shard(20240520, [1, 2, 300]));
    const source = openTokenFile(path, 2, 256);
    const out = new Int32Array(2);
    source.read(0, out);
    expect([...out]).toEqual([1, 2]);
    expect(() => source.read(1, out)).toThrow(`${path}: the token 300 at byte 1028 is outside`);
    const negative = openTokenFile(file('negative.bin', shard(20240801, [2 ** 32 - 1])), 2, 256);
    expect(() => all(negative)).toThrow('token 4294967295');
  });

  it('detects a file that becomes shorter, and rejects reads out of range', () => {
    const path = file('shrinks.bin', new Uint8Array(100));
    const source = openTokenFile(path, 1, 256);
    truncateSync(path, 50);
    expect(() => all(source)).toThrow(InputError);
    expect(() => source.read(99, new Int32Array(2))).toThrow(RangeError);
  });

  it('rejects a missing file and a folder', () => {
    expect(() => openTokenFile(join(folder, 'nowhere'), 2, 256)).toThrow(InputError);
    expect(() => openTokenFile(folder, 2, 256)).toThrow(InputError);
  });
});

describe('reading', () => {
  it('returns that slice of the whole for any start and length, over more files than stay open', async () => {
    const parts = Array.from({ length: 150 }, (_, i) => `file ${i} `.repeat(i % 5 === 0 ? 40 : 1));
    parts.forEach((part, i) => {
      file(`many/${String(i).padStart(3, '0')}`, part);
    });
    const whole = Buffer.from(parts.map((part) => `${part}\0`).join(''));
    const source = await text(['many/*']);
    expect(source.tokens).toBe(whole.length);
    const place = fc.nat(whole.length - 1);
    fc.assert(
      fc.property(place, place, (a, b) => {
        const out = new Int32Array(Math.abs(a - b)).fill(-1);
        source.read(Math.min(a, b), out);
        expect(Buffer.from(out)).toEqual(whole.subarray(Math.min(a, b), Math.max(a, b)));
      }),
      { numRuns: 100 },
    );
    source.close();
    expect(Buffer.from(all(source))).toEqual(whole); // closed sources are reopened
    source.close();
  });

  it('reads ranges longer than its buffer', () => {
    const tokens = Array.from({ length: 100_000 }, (_, i) => (i * 7919) % 60_000);
    const source = openTokenFile(
      file('long.bin', new Uint8Array(Uint16Array.from(tokens).buffer)),
      2,
      60_000,
    );
    expect(all(source)).toEqual(tokens);
  });
});
