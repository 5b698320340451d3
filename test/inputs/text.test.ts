/** Files given as text: the documents that are read from each, or the message that refuses it. */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { documentPieces, type TextSlice } from '../../src/data/documents.js';
import { isPipe, type Pipe } from '../../src/data/pipes.js';
import { textFormat } from '../../src/data/text-format.js';
import { openTokens } from '../../src/data/tokens.js';
import { InputError } from '../../src/errors.js';
import {
  BZIP2,
  BZIP2_BLOCKS,
  encoded,
  fromBase64,
  LONG_TEXT,
  npyOf,
  PARQUET,
  tarOf,
  tokenBytes,
  XZ,
  ZSTD,
} from '../support/inputs.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-text-inputs-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Options {
  separator?: string;
  unchecked?: boolean;
  field?: string;
  skipBad?: boolean;
}

/** The documents, or the error without the path. */
async function read(name: string, content: Buffer, options: Options = {}): Promise<string[] | string> {
  const { separator = null, unchecked = false, field = 'text', skipBad = false } = options;
  const pieces = (slice: TextSlice) =>
    skipBad
      ? documentPieces(slice, { separator, field }, { onBad: () => undefined })
      : documentPieces(slice, { separator, field });
  const path = join(folder, name);
  writeFileSync(path, content);
  try {
    const format = await textFormat(path, { separator, unchecked, option: '--unchecked' });
    const documents: string[] = [];
    const slice = { path, start: 0, end: null, format };
    for await (const { bytes, first } of pieces(slice)) {
      if (first) documents.push('');
      documents.push(`${documents.pop()}${bytes}`);
    }
    return documents;
  } catch (error) {
    return (error as Error).message.replace(`${path}: `, '');
  }
}

/** The bytes with one bit flipped in the byte at a position. */
function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] as number) ^ 1;
  return copy;
}

const utf8 = (text: string) => Buffer.from(text);
const LINES = '{"text": "one"}\n{"text": "two"}\n';
describe('text is read', () => {
  const table: [what: string, name: string, content: Buffer, documents: string[], options?: Options][] = [
    ['UTF-8', 'a', utf8('naïve 日本 🙂\n'), ['naïve 日本 🙂\n']],
    ['ASCII of one byte', 'a', utf8('x'), ['x']],
    ['an empty file', 'a', utf8(''), []],
    ['UTF-8 with a mark', 'a', utf8('\ufefftext'), ['text']],
    ['only a mark', 'a', utf8('\ufeff'), []],
    ['a mark within the text', 'a', utf8('te\ufeffxt'), ['te\ufeffxt']],
    ['UTF-16LE with a mark', 'a', encoded('\ufeffnaïve 日本 🙂', 'utf-16le'), ['naïve 日本 🙂']],
    ['UTF-16BE with a mark', 'a', encoded('\ufeffnaïve 日本 🙂', 'utf-16be'), ['naïve 日本 🙂']],
    ['UTF-32LE with a mark', 'a', encoded('\ufeffnaïve 日本 🙂', 'utf-32le'), ['naïve 日本 🙂']],
    ['UTF-32BE with a mark', 'a', encoded('\ufeffnaïve 日本 🙂', 'utf-32be'), ['naïve 日本 🙂']],
    ['terminal colours', 'a', utf8('\x1b[31mred\x1b[0m\n'), ['\x1b[31mred\x1b[0m\n']],
    ['a form feed', 'a', utf8('page\f\npage'), ['page\f\npage']],
    ['XML and HTML', 'a.html', utf8('<!doctype html><p>text'), ['<!doctype html><p>text']],
    ['a shell script', 'a.sh', utf8('#!/bin/sh\necho\n'), ['#!/bin/sh\necho\n']],
    [
      'some bytes of Latin-1 among UTF-8',
      'a',
      Buffer.concat([utf8('éèà '), Buffer.of(0xe9)]),
      ['éèà \ufffd'],
    ],
    ['CRLF as it is', 'a', utf8('a\r\nb\r\n'), ['a\r\nb\r\n']],
    ['gzip', 'a.gz', gzipSync('text'), ['text']],
    ['gzip of two members', 'a', Buffer.concat([gzipSync('te'), gzipSync('xt')]), ['text']],
    ['gzip of UTF-16 with a mark', 'a', gzipSync(encoded('\ufefftext', 'utf-16le')), ['text']],
    ['gzip of nothing', 'a', gzipSync(''), []],
    ['zstd', 'a', ZSTD, ['text of zstd\n']],
    [
      'zstd after a skippable frame',
      'a',
      Buffer.concat([fromBase64('UCpNGAQAAAABAgME'), ZSTD]),
      ['text of zstd\n'],
    ],
    ['xz', 'a', XZ, ['text of xz\n']],
    [
      'xz of two streams, padded',
      'a',
      Buffer.concat([XZ, Buffer.alloc(4), XZ]),
      ['text of xz\ntext of xz\n'],
    ],
    ['bzip2', 'a', BZIP2, ['text of bzip2\n']],
    ['bzip2 of several blocks', 'a', BZIP2_BLOCKS, ['abcd'.repeat(100_000)]],
    ['bzip2 of two streams', 'a', Buffer.concat([BZIP2, BZIP2]), ['text of bzip2\ntext of bzip2\n']],
    ['JSON Lines', 'a.jsonl', utf8(LINES), ['one', 'two']],
    ['JSON Lines by another name', 'part.1', utf8(LINES), ['one', 'two']],
    ['JSON Lines named .txt', 'a.txt', utf8(LINES), ['one', 'two']],
    ['JSON Lines in gzip', 'a.gz', gzipSync(LINES), ['one', 'two']],
    ['JSON Lines with a mark', 'a', utf8(`\ufeff${LINES}`), ['one', 'two']],
    ['JSON Lines in UTF-16', 'a', encoded(`\ufeff${LINES}`, 'utf-16le'), ['one', 'two']],
    ['JSON Lines with CRLF', 'a', utf8(LINES.replaceAll('\n', '\r\n')), ['one', 'two']],
    ['JSON Lines with blank lines', 'a', utf8(`\n${LINES}\n\n`), ['one', 'two']],
    ['JSON Lines of one line', 'a', utf8('{"text": "one"}'), ['one']],
    ['JSON Lines of another field', 'a', utf8('{"body": "one", "id": 1}\n'), ['one'], { field: 'body' }],
    ['NaN in a line', 'a', utf8('{"score": NaN, "text": "one NaN"}\n'), ['one NaN']],
    ['infinities in a line', 'a', utf8('{"a": [-Infinity, Infinity], "text": "\\"NaN\\""}\n'), ['"NaN"']],
    ['text with a line of JSON', 'a', utf8(`Such as\n${LINES}this.\n`), [`Such as\n${LINES}this.\n`]],
    ['a JSON document as text', 'a.txt', utf8('{\n "a": 1\n}\n'), ['{\n "a": 1\n}\n']],
    ['Parquet, by another name', 'a', PARQUET.zstd, ['one']],
    ['Parquet of another column', 'a', PARQUET.snappy, ['a', 'b', 'c', 'd'], { field: 'title' }],
    ['Parquet with nulls, skipped', 'a', PARQUET.snappy, ['one', 'four naïve'], { skipBad: true }],
    ['Parquet with LZ4', 'a', PARQUET.lz4, ['lz4 lz4 lz4 lz4 lz4 lz4 lz4']],
    ['Parquet with gzip', 'a', PARQUET.gzip, ['gz']],
    ['Parquet with Brotli', 'a', PARQUET.brotli, ['br']],
    ['Parquet without rows', 'a', PARQUET.empty, []],
    [
      'JSON Lines with damage, skipped',
      'a.jsonl',
      utf8(`${LINES}{"text": \n{"text": null}\n[1]\n${LINES}`),
      ['one', 'two', 'one', 'two'],
      { skipBad: true },
    ],
    ['NULs that separate', 'a', utf8('one\0two\0'), ['one', 'two'], { separator: '\0' }],
    ['Latin-1, unchecked', 'a', Buffer.from('é', 'latin1'), ['\ufffd'], { unchecked: true }],
    ['NULs, unchecked', 'a', utf8('a\0b'), ['a\0b'], { unchecked: true }],
    [
      'a JSON document named .json, unchecked',
      'a.json',
      utf8('{\n "a": 1\n}\n'),
      ['{\n "a": 1\n}\n'],
      { unchecked: true },
    ],
    ['JSON Lines by another name, unchecked', 'a.txt', utf8(LINES), [LINES], { unchecked: true }],
  ];
  it.each(table)('%s', async (_, name, content, documents, options) => {
    expect(await read(name, content, options)).toEqual(documents);
  });
});

describe('files that are not text are refused', () => {
  const notText = (what: string, advice: string) =>
    `looks like ${what}, not like UTF-8 text: ${advice}; --unchecked reads it as it is`;
  const iconv = (encoding: string) => `convert it to UTF-8, for example with iconv -f ${encoding} -t UTF-8`;
  const random = 'compressed or encrypted data, such as Brotli, raw LZ4 or raw deflate';
  const ALPHABET = 'convert it to UTF-8, for example with iconv -f KOI8-R or -f WINDOWS-1251 -t UTF-8';
  const numbers = (bytes: number) =>
    notText(
      `numbers of ${bytes} bytes, such as token ids`,
      `name the file in data.train with token_bytes: ${bytes}`,
    );
  const table: [what: string, content: Buffer, message: string][] = [
    ...(['utf-16le', 'utf-16be', 'utf-32le', 'utf-32be'] as const).flatMap((encoding) =>
      (['english', 'russian', 'japanese', 'chinese', 'korean'] as const).map(
        (language): [string, Buffer, string] => [
          `${language} in ${encoding} without a mark`,
          encoded(LONG_TEXT[language], encoding),
          notText(`${encoding.toUpperCase()} text without a byte order mark`, iconv(encoding.toUpperCase())),
        ],
      ),
    ),
    [
      'one word of Latin-1',
      Buffer.from('café', 'latin1'),
      notText('text that is not UTF-8, such as Latin-1 or Windows-1252', iconv('ISO-8859-1')),
    ],
    [
      'Shift JIS',
      fromBase64('jOGUeYLNlEyCxYKggumBQpa8kU+CzYLcgr6Ws4KigUIK'),
      notText('SHIFT_JIS text', iconv('SHIFT_JIS')),
    ],
    [
      'EUC-JP',
      fromBase64('uOPH2qTPx62kx6SipOuho8y+wbCkz6TepMDMtaSkoaMK'),
      notText('EUC-JP text', iconv('EUC-JP')),
    ],
    [
      'ISO-2022-JP',
      fromBase64('GyRCOGNHWiRPRy0kRyQiJGshIxsoQgo='),
      notText('ISO-2022-JP text', iconv('ISO-2022-JP')),
    ],
    [
      'GB 18030',
      fromBase64('ztLKx9K7uPbIy6Osy/vDx9Ta1eLA78u1tcTKx9bQzsShow=='),
      notText('GB18030 text', iconv('GB18030')),
    ],
    [
      'EUC-KR',
      fromBase64('s6q0wiCw7b7nwMy3zrzSwMy02S4gwMy4p8C6IL7Gwfcgvvi02S4='),
      notText('EUC-KR text', iconv('EUC-KR')),
    ],
    [
      'Big5',
      fromBase64('p9qsT6RArdOkSKFBpUytzKZis2+4zLuhqrqsT6SkpOWhQw=='),
      notText('BIG5 text', iconv('BIG5')),
    ],
    [
      'Windows-1251',
      fromBase64('0frl+Pwg5uUg5fm4IP3y6PUg7P/j6uj1IOHz6+7qLg=='),
      notText('text that is not UTF-8, in an alphabet such as Cyrillic or Greek', ALPHABET),
    ],
    [
      'EBCDIC',
      fromBase64('yIWTk5ZAo4iFmYVrQKOIiaJAiaJAgUCjhaejQImVQMXCw8TJw0s='),
      notText('EBCDIC text', iconv('IBM1047')),
    ],
    [
      'KOI8-R',
      fromBase64('89/F29gg1sUgxd2jINzUycggzdHHy8nIIMLVzM/LLg=='),
      notText('text that is not UTF-8, in an alphabet such as Cyrillic or Greek', ALPHABET),
    ],
    ['zlib', deflateSync(LONG_TEXT.english), notText('a zlib stream', 'decompress it first')],
    ['Brotli', brotliCompressSync(tokenBytes(2, 4000)), notText(random, 'decompress it first')],
    ['raw deflate', deflateRawSync(tokenBytes(2, 4000)), notText(random, 'decompress it first')],
    [
      'MessagePack',
      Buffer.from('\x82\xa4text\xa5hello\xa2id\x01', 'latin1'),
      notText('MessagePack data', 'convert it to Parquet or JSON Lines'),
    ],
    [
      'CBOR',
      Buffer.from('\xa2dtextehello\x62id\x01', 'latin1'),
      notText('CBOR data', 'convert it to Parquet or JSON Lines'),
    ],
    [
      'text with a NUL',
      utf8('document one.\0document two.'),
      notText(
        'text with NUL bytes',
        'if they are the separators of documents, divide it with mod data prepare --separator "\\0"; otherwise remove them',
      ),
    ],
    ['token ids of 2 bytes', tokenBytes(2, 4000), numbers(2)],
    ['token ids of 4 bytes', tokenBytes(4, 4000), numbers(4)],
    ['token ids of 8 bytes', tokenBytes(8, 4000), numbers(8)],
    ['zeros', Buffer.alloc(100), notText('binary data', 'name files of text, JSON Lines or Parquet')],
    [
      'a shard of llm.c',
      Buffer.from(Int32Array.of(20240520, 1, 0).buffer),
      'a token shard of llm.c, not text: its tokens are ready: name it in data.train',
    ],
    [
      'a tar archive in gzip',
      gzipSync(tarOf('a.txt', 'text')),
      'a tar archive in gzip, not text: unpack it and name the files in it',
    ],
    [
      'a NumPy array',
      npyOf('<u2', Uint8Array.of(1, 0), '(1,)'),
      'a NumPy array (.npy), not text: if it contains token ids, name it in data.train',
    ],
    [
      'a line that is not UTF-8',
      Buffer.concat([utf8(`${LINES}{"text": "é`), Buffer.of(0xe9), utf8('"}\n')]),
      'the line at byte 32 is not UTF-8',
    ],
    ['a Parquet row without a text', PARQUET.snappy, "row 2 has no text in its column 'text'"],
    [
      'Parquet that ends early',
      PARQUET.gzip.subarray(0, -20),
      'a Parquet file that ends early, not text: copy it again',
    ],
    ['Parquet in gzip', gzipSync(PARQUET.gzip), 'a Parquet file in gzip, not text: decompress it first'],
    [
      'Parquet with a flipped bit',
      flipped(PARQUET.zstd, PARQUET.zstd.indexOf('one')),
      'damaged Parquet, or of a kind that is not read: the checksum of a page differs',
    ],
    [
      'gzip in gzip',
      gzipSync(gzipSync('text')),
      'a file compressed with gzip in gzip, not text: decompress it first',
    ],
    [
      'Latin-1 in gzip',
      gzipSync(Buffer.from('café', 'latin1')),
      notText('text that is not UTF-8, such as Latin-1 or Windows-1252 in gzip', iconv('ISO-8859-1')),
    ],
    [
      'gzip that ends early',
      gzipSync(LONG_TEXT.english).subarray(0, -20),
      'damaged or truncated gzip: unexpected end of file',
    ],
    ['xz that ends early', XZ.subarray(0, -20), 'damaged or truncated xz: it ends early'],
    ['bzip2 that ends early', BZIP2.subarray(0, -2), 'damaged or truncated bzip2: it ends early'],
    [
      'bzip2 before other bytes',
      Buffer.concat([BZIP2, utf8('text')]),
      'damaged or truncated bzip2: bytes follow that are not a bzip2 stream',
    ],
  ];
  it.each(table)('%s', async (_, content, message) => {
    expect(await read('file', content)).toBe(message);
  });

  it.each(['{\n "text": "a"\n}', '[{"text": "a"}, {"text": "b"}]', '[\n{"text": "a"}]'])(
    'a JSON document named .json: %j',
    async (content) => {
      expect(await read('a.json', utf8(content))).toBe(
        "a JSON document, not JSON Lines: put every object on a line of its own, for example with jq -c '.[]'; --unchecked reads it as text",
      );
    },
  );
});

it('any damage is an InputError, or the file is read', async () => {
  const whole = fc.constantFrom(...Object.values(PARQUET), XZ, BZIP2, BZIP2_BLOCKS, ZSTD, gzipSync(LINES));
  const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 3 });
  const path = join(folder, 'damaged');
  await fc.assert(
    fc.asyncProperty(whole, changes, fc.option(fc.nat()), async (content, some, cut) => {
      const bytes = Buffer.from(content);
      for (const [at, value] of some) bytes[at % bytes.length] = value;
      writeFileSync(path, cut === null ? bytes : bytes.subarray(0, cut % bytes.length));
      try {
        const format = await textFormat(path, { separator: null, unchecked: true, option: '' });
        const slice = { path, start: 0, end: null, format };
        for await (const { bytes: text } of documentPieces(slice, { separator: null, field: 'text' })) {
          expect(text.length).toBeLessThanOrEqual(2 ** 21);
        }
      } catch (error) {
        expect(error).toBeInstanceOf(InputError);
      }
    }),
    { numRuns: 600 },
  );
});

it('a Parquet file divided at any byte has every row once', async () => {
  const path = join(folder, 'sliced.parquet');
  writeFileSync(path, PARQUET.snappy);
  const format = await textFormat(path, { separator: null, unchecked: false, option: '' });
  const rows = async (start: number, end: number | null) => {
    const texts: string[] = [];
    const slice = { path, start, end, format };
    for await (const { bytes } of documentPieces(slice, { separator: null, field: 'title' }))
      texts.push(`${bytes}`);
    return texts;
  };
  for (let cut = 0; cut < PARQUET.snappy.length; cut += 13) {
    expect([...(await rows(0, cut)), ...(await rows(cut, null))]).toEqual(['a', 'b', 'c', 'd']);
  }
});

describe('a Parquet file without the column is refused', () => {
  it.each([
    ['body', "has no column 'body': text is in title, text; name it with --field"],
    ['id', "the column 'id' is not text: text is in title, text; name it with --field"],
  ])('%s', async (field, message) => {
    expect(await read('a', PARQUET.snappy, { field })).toBe(message);
  });
});

describe('data.text', () => {
  const tokens = async (name: string, content: Buffer, more = {}) => {
    writeFileSync(join(folder, name), content);
    const data = { text: [name], heldout_text: ['none'], tokenizer: 'bytes', vocab_size: 256, ...more };
    const source = await openTokens(data, 'train', folder);
    const out = new Int32Array(source.tokens);
    source.read(0, out);
    source.close();
    return Buffer.from(out).toString();
  };

  it.each([
    ['a', utf8('text'), 'text\0'],
    ['a', utf8('\ufefftext'), 'text\0'],
    ['a', encoded('\ufeffnaïve', 'utf-16be'), 'naïve\0'],
    ['a', gzipSync('text'), 'text\0'],
    ['a', XZ, 'text of xz\n\0'],
    ['a.jsonl', utf8(LINES), 'one\0two\0'],
    ['a', gzipSync(LINES), 'one\0two\0'],
    ['a', PARQUET.zstd, 'one\0'],
  ])('reads %s %s as the bytes of its documents, each with a NUL: %j', async (name, content, expected) => {
    expect(await tokens(name, content)).toBe(expected);
  });

  it('reads the field that data.field names', async () => {
    expect(await tokens('a', utf8('{"body": "b", "text": "t"}\n'), { field: 'body' })).toBe('b\0');
  });

  it('names all files that it refuses, and the key that reads them as they are', async () => {
    writeFileSync(join(folder, 'many-1'), Buffer.from('café', 'latin1'));
    await expect(tokens('many-2', Buffer.from('%PDF-1.7'), { text: ['many-*'] })).rejects.toThrow(
      [
        `${join(folder, 'many-1')}: looks like text that is not UTF-8, such as Latin-1 or Windows-1252, not like UTF-8 text: convert it to UTF-8, for example with iconv -f ISO-8859-1 -t UTF-8; data.unchecked: true reads it as it is`,
        `${join(folder, 'many-2')}: a PDF document, not text: convert it to plain text first, for example with pdftotext`,
      ].join('\n'),
    );
    expect(await tokens('many-1', Buffer.from('caf\x01', 'latin1'), { unchecked: true })).toBe('caf\x01\0');
  });
});

describe('a pipe', () => {
  /** A stream of which the first bytes have been read; a file stands for it. */
  function pipeOf(content: Buffer, headBytes: number): Pipe {
    const path = join(folder, 'stream');
    writeFileSync(path, content);
    const file = openSync(path, 'r');
    const head = new Uint8Array(headBytes);
    const length = readSync(file, head);
    return { file, head: head.subarray(0, length), isEnd: length < headBytes };
  }

  async function readPipe(content: Buffer, headBytes: number): Promise<string[] | string> {
    const pipe = pipeOf(content, headBytes);
    try {
      const format = await textFormat(
        '-',
        { separator: null, unchecked: false, option: '--unchecked' },
        pipe,
      );
      const documents: string[] = [];
      const slice = { path: '-', start: 0, end: null, format, pipe };
      for await (const { bytes, first } of documentPieces(slice, { separator: null, field: 'text' })) {
        if (first) documents.push('');
        documents.push(`${documents.pop()}${bytes}`);
      }
      return documents;
    } catch (error) {
      return (error as Error).message;
    } finally {
      closeSync(pipe.file);
    }
  }

  const texts = Array.from({ length: 60_000 }, (_, i) => `line ${i} of a stream that is longer than a read`);
  const lines = utf8(texts.map((text) => `${JSON.stringify({ text })}\n`).join(''));

  it.each<[string, Buffer]>([
    ['plain', lines],
    ['gzip', gzipSync(lines, { level: 1 })],
  ])('of JSON Lines is read as a file is: %s', async (_, content) => {
    expect(lines.length).toBeGreaterThan(3 * 2 ** 20);
    for (const headBytes of [2 ** 16, 2 ** 23]) expect(await readPipe(content, headBytes)).toEqual(texts);
  });

  it.each([
    [PARQUET.zstd, '-: a Parquet file, which cannot be read from a pipe: name the file'],
    [
      utf8('%PDF-1.7'),
      '-: a PDF document, not text: convert it to plain text first, for example with pdftotext',
    ],
    [gzipSync(LINES).subarray(0, -20), '-: damaged or truncated gzip: unexpected end of file'],
  ])('of another content is refused: %#', async (content, message) => {
    expect(await readPipe(content, 2 ** 21)).toBe(message);
  });

  it.skipIf(process.platform === 'win32')('is - or a path that is no file', () => {
    expect(['-', '/dev/null', folder, join(folder, 'stream'), 'nowhere'].map(isPipe)).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
  });
});

describe('a separator', () => {
  it.each<[separator: string, text: string, documents: string[]]>([
    ['\n\n', 'a\r\n\r\nb\r\nc\r\n\r\nd', ['a', 'b\r\nc', 'd']],
    ['\n\n', 'a\n\nb\r\n\r\nc', ['a', 'b\r\n\r\nc']],
    ['\n', 'a\r\nb', ['a', 'b']],
    ['\r\n', 'a\r\nb\nc', ['a', 'b\nc']],
    ['\n---\n', 'a\r\n---\r\nb', ['a', 'b']],
    ['---', 'a\r\n---\r\nb', ['a\r\n', '\r\nb']],
  ])('%j has the newlines of the text %j', async (separator, text, documents) => {
    expect(await read('a', utf8(text), { separator })).toEqual(documents);
  });
});
