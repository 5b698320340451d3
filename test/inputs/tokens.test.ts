/** Files given as tokens: the ids that are read from each, or the message that refuses it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { openTokenFile } from '../../src/data/tokens.js';
import type { TokenWidth } from '../../src/files/guess.js';
import { encoded, LONG_TEXT, npyOf, tokenBytes } from '../support/inputs.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-token-inputs-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Options {
  vocabulary?: number;
  unchecked?: boolean;
}

/** The ids, or the error without the path. */
function read(content: Uint8Array, width: TokenWidth, options: Options = {}): number[] | string {
  const { vocabulary = 100_000, unchecked = false } = options;
  const path = join(folder, 'file');
  writeFileSync(path, content);
  try {
    const source = openTokenFile(path, width, vocabulary, unchecked);
    const out = new Int32Array(source.tokens);
    source.read(0, out);
    source.close();
    return [...out];
  } catch (error) {
    return (error as Error).message.replace(`${path}: `, '');
  }
}

const bytesOf = (numbers: NodeJS.TypedArray) => new Uint8Array(numbers.buffer);
const shard = (magic: number, version: number, tokens: Uint16Array | Uint32Array) => {
  const header = new Int32Array(256);
  header.set([magic, version, tokens.length]);
  return Buffer.concat([bytesOf(header), bytesOf(tokens)]);
};
const IDS = [7, 50_256, 0, 300];

describe('ids are read', () => {
  const table: [what: string, content: Uint8Array, width: TokenWidth, ids: number[], options?: Options][] = [
    ['bare, 1 byte', Uint8Array.of(7, 255, 0), 1, [7, 255, 0]],
    ['bare, 2 bytes', bytesOf(Uint16Array.from(IDS)), 2, IDS],
    ['bare, 4 bytes', bytesOf(Uint32Array.from([...IDS, 99_999])), 4, [...IDS, 99_999]],
    ['bare, 8 bytes', bytesOf(BigInt64Array.from(IDS.map(BigInt))), 8, IDS],
    ['bytes of text as ids', Buffer.from(LONG_TEXT.english), 1, [...Buffer.from(LONG_TEXT.english)]],
    ['bytes with NULs', Buffer.from('one\0two\0'), 1, [...Buffer.from('one\0two\0')]],
    ['zeros', new Uint8Array(200), 2, Array(100).fill(0)],
    [
      'equal ids',
      bytesOf(new Uint16Array(100).fill(0x2020)),
      2,
      Array(100).fill(0x2020),
      { unchecked: true },
    ],
    ['a shard of 2 bytes', shard(20240520, 1, Uint16Array.from(IDS)), 1, IDS],
    ['a shard of 4 bytes', shard(20240801, 7, Uint32Array.from(IDS)), 1, IDS],
    ['NumPy, uint16', npyOf('<u2', bytesOf(Uint16Array.from(IDS)), '(4,)'), 1, IDS],
    ['NumPy, int32', npyOf('<i4', bytesOf(Int32Array.from(IDS)), '(4,)'), 1, IDS],
    [
      'NumPy, int64 in two rows',
      npyOf('<i8', bytesOf(BigInt64Array.from(IDS.map(BigInt))), '(2, 2)'),
      1,
      IDS,
    ],
    ['NumPy, uint8', npyOf('|u1', Uint8Array.of(1, 2), '(2,)'), 2, [1, 2]],
    ['NumPy, version 2', npyOf('<u2', bytesOf(Uint16Array.from(IDS)), '(4,)', 2), 1, IDS],
  ];
  it.each(table)('%s', (_, content, width, ids, options) => {
    expect(read(content, width, options)).toEqual(ids);
  });

  it.each([2, 4, 8] as const)('of a large file of %d bytes a token', (width) => {
    const content = tokenBytes(width, 20_000);
    const ids = Array.from({ length: 20_000 }, (_, i) => content.readUIntLE(i * width, Math.min(width, 6)));
    expect(read(content, width)).toEqual(ids);
  });
});

describe('other files are refused', () => {
  const looks = (what: string, advice: string) =>
    `looks like ${what}: ${advice}; --unchecked reads it as it is`;
  const width = (is: number, not: number) =>
    looks(`token ids of ${is} bytes, not of ${not}`, `set token_bytes: ${is} (--token-bytes ${is})`);
  const bigEndian = (bytes: number) =>
    looks(
      `big-endian token ids of ${bytes} bytes`,
      'write them little-endian, for example with numpy’s byteswap()',
    );
  const TEXT = looks(
    'text, not like token ids',
    'name it in data.text, convert it with mod data prepare, or set token_bytes: 1 if every byte is a token',
  );
  const table: [what: string, content: Uint8Array, width: TokenWidth, message: string][] = [
    ['an empty file', new Uint8Array(), 2, 'the file is empty'],
    ['half a token', Uint8Array.of(1, 0, 2), 2, '3 bytes are not a multiple of token_bytes, 2'],
    ['text', Buffer.from(LONG_TEXT.english), 2, TEXT],
    ['Japanese text', Buffer.from(LONG_TEXT.japanese), 4, TEXT],
    ['JSON Lines', Buffer.from('{"text": "one"}\n'.repeat(10)), 2, TEXT],
    ['2 bytes as 1', tokenBytes(2, 4000), 1, width(2, 1)],
    ['4 bytes as 2', tokenBytes(4, 1000), 2, width(4, 2)],
    ['8 bytes as 2', tokenBytes(8, 1000), 2, width(8, 2)],
    ['8 bytes as 4', tokenBytes(8, 1000), 4, width(8, 4)],
    ['2 bytes as 4', tokenBytes(2, 4000), 4, width(2, 4)],
    ['4 bytes as 8', tokenBytes(4, 1000), 8, width(4, 8)],
    [
      'byte ids in 2 bytes, as 1',
      encoded(LONG_TEXT.english.replaceAll('ï', 'i'), 'utf-16le'),
      1,
      width(2, 1),
    ],
    [
      'byte ids in 4 bytes, as 2',
      encoded(LONG_TEXT.english.replaceAll('ï', 'i'), 'utf-32le'),
      2,
      width(4, 2),
    ],
    ['big-endian, 2 bytes', tokenBytes(2, 4000, true), 2, bigEndian(2)],
    ['big-endian, 4 bytes', tokenBytes(4, 1000, true), 4, bigEndian(4)],
    ['big-endian, 8 bytes', tokenBytes(8, 1000, true), 8, bigEndian(8)],
    [
      'Brotli',
      brotliCompressSync(tokenBytes(2, 60_000)),
      1,
      looks('compressed or encrypted data, not like token ids', 'decompress it first'),
    ],
    [
      'UTF-16 with a mark',
      encoded(`\ufeff${LONG_TEXT.japanese}`, 'utf-16le'),
      2,
      looks(
        'text in UTF-16LE, not like token ids',
        'name it in data.text, or convert it with mod data prepare',
      ),
    ],
    [
      'gzip',
      gzipSync(tokenBytes(2, 10)),
      2,
      'a file compressed with gzip, not token ids: decompress it first',
    ],
    [
      'a shard of another version',
      shard(20240520, 3, Uint16Array.of(1)),
      2,
      'a shard of version 3; this program reads version 1',
    ],
    [
      'a shard that ends early',
      shard(20240520, 1, Uint16Array.of(1, 2)).subarray(0, -1),
      2,
      'a truncated shard: its header gives 2 tokens, 1028 bytes; the file has 1027',
    ],
    [
      'an id outside the vocabulary',
      bytesOf(Uint32Array.of(1, 100_000)),
      4,
      'the token 100000 at byte 4 is outside the vocabulary of 100000: check vocab_size and token_bytes',
    ],
    [
      'a negative id',
      npyOf('<i4', bytesOf(Int32Array.of(-1)), '(1,)'),
      2,
      'the token 4294967295 at byte 128 is outside the vocabulary of 100000: check vocab_size and token_bytes',
    ],
    [
      'NumPy, float32',
      npyOf('<f4', new Uint8Array(8), '(2,)'),
      2,
      'a NumPy array of floating-point numbers, not of token ids: save integers, for example with astype(numpy.uint16)',
    ],
    [
      'NumPy, objects',
      npyOf('|O', new Uint8Array(8), '(2,)'),
      2,
      'a NumPy array of pickled objects, not of token ids: save integers, for example with astype(numpy.uint16)',
    ],
    [
      'NumPy, integers of no bytes',
      npyOf('<u0', new Uint8Array(4), '(2,)'),
      2,
      "a NumPy array of type '<u0', not of token ids: save integers, for example with astype(numpy.uint16)",
    ],
    [
      'NumPy, big-endian',
      npyOf('>u2', new Uint8Array(4), '(2,)'),
      2,
      "a big-endian NumPy array: save it little-endian, with astype('<u2') or astype('<u4')",
    ],
    [
      'NumPy, by columns',
      npyOf('<u2', new Uint8Array(8), '(2, 2)', 1, 'True'),
      2,
      'a NumPy array in the order of columns: save it with numpy.ascontiguousarray',
    ],
    [
      'NumPy that ends early',
      npyOf('<u2', new Uint8Array(3), '(2,)'),
      2,
      'a truncated NumPy array: its header gives 2 numbers, 132 bytes; the file has 131',
    ],
    ['NumPy without numbers', npyOf('<u2', new Uint8Array(), '(0,)'), 2, 'a NumPy array without numbers'],
  ];
  it.each(table)('%s', (_, content, width, message) => {
    expect(read(content, width)).toBe(message);
  });
});
