/** Documents of text and JSONL files: each is read exactly once, for any slicing, compression or read size. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { type DocumentFormat, documentPieces } from '../../src/data/documents.js';
import { isNamedJsonLines } from '../../src/data/json-lines.js';
import { PIECE_BYTES } from '../../src/data/pieces.js';
import { textFormat } from '../../src/data/text-format.js';
import type { Cuts } from '../../src/data/tokenizer.js';
import type { Slice } from '../../src/data/unpack.js';
import { InputError } from '../../src/errors.js';
import { BZIP2, XZ } from '../support/inputs.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-documents-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const FORMAT: DocumentFormat = { field: 'text', separator: null };

async function piecesOf(
  slice: Slice | string,
  format = FORMAT,
  cuts: Cuts = 'anywhere',
): Promise<string[][]> {
  const documents: string[][] = [];
  let open: string[] = [];
  const whole = typeof slice === 'string' ? { path: slice, start: 0, end: null } : slice;
  // Divided texts may contain NULs.
  const checks = { unchecked: format.separator !== null, option: '--unchecked', separator: format.separator };
  const slices = { ...whole, format: await textFormat(whole.path, checks) };
  for await (const { bytes, first, last } of documentPieces(slices, format, { cuts })) {
    expect(first).toBe(open.length === 0);
    open.push(bytes.toString());
    if (last) {
      documents.push(open);
      open = [];
    }
  }
  expect(open).toEqual([]);
  return documents;
}

const documentsOf = async (slice: Slice | string, format = FORMAT) =>
  (await piecesOf(slice, format)).map((pieces) => pieces.join(''));

describe('text', () => {
  it('is one document per file; an empty file has none', async () => {
    expect(await documentsOf(file('one.txt', 'a\n\nb\n'))).toEqual(['a\n\nb\n']);
    expect(await documentsOf(file('none.txt', ''))).toEqual([]);
  });

  it('is split at every occurrence of any separator; empty documents are left out', async () => {
    const separator = fc.constantFrom('\0', '\n\n', '<|endoftext|>', 'aab');
    const parts = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '\n', '\0', 'é') }));
    await fc.assert(
      fc.asyncProperty(parts, separator, async (some, between) => {
        const text = some.join(between);
        const documents = await documentsOf(file('split.txt', text), { ...FORMAT, separator: between });
        expect(documents).toEqual(text.split(between).filter((part) => part !== ''));
      }),
      { numRuns: 100 },
    );
  });

  it('of any length is read in pieces cut between words, and separators are found across reads', async () => {
    const line = 'forty letters and some more é in a line\n';
    const long = line.repeat(Math.ceil((3 * PIECE_BYTES) / Buffer.byteLength(line)));
    const separator = '<end>';
    // Reads are as long as pieces: the first separator crosses the end of one.
    const across = 'x'.repeat(PIECE_BYTES - 2);
    const path = file('long.txt', [across, long, 'short'].join(separator));
    const documents = await piecesOf(path, { ...FORMAT, separator }, 'lines');
    expect(documents.map((pieces) => pieces.join(''))).toEqual([across, long, 'short']);
    const [, pieces = []] = documents;
    expect(pieces.length).toBeGreaterThan(3);
    for (const piece of pieces) {
      expect(Buffer.byteLength(piece)).toBeLessThanOrEqual(PIECE_BYTES);
      expect(piece.startsWith('forty') && piece.endsWith('\n')).toBe(true);
    }
  });

  it('without newlines is cut between characters', async () => {
    const text = `a${'語'.repeat(PIECE_BYTES)}`;
    const [pieces = []] = await piecesOf(file('wide.txt', text));
    expect(pieces.length).toBeGreaterThan(2);
    expect(pieces.join('')).toBe(text);
    expect(pieces.join('')).not.toContain('\ufffd');
  });
});

describe('JSONL', () => {
  it.each([
    ['a.jsonl', true],
    ['a.ndjson.gz', true],
    ['c4-train.00000-of-01024.json.gz', true],
    ['a.JSONL.zst', true],
    ['a.txt', false],
    ['jsonl', false],
  ])('%s is JSONL by its name: %s', (name, expected) => {
    expect(isNamedJsonLines(name)).toBe(expected);
  });

  it('has one document per line, in any field; empty ones are left out', async () => {
    const path = file('a.jsonl', '{"text": "a\\nb"}\n\n{"text": ""}\r\n{"body": 1, "text": "c"}');
    expect(await documentsOf(path)).toEqual(['a\nb', 'c']);
    const named = file('b.jsonl', '{"body": "a"}\n');
    expect(await documentsOf(named, { ...FORMAT, field: 'body' })).toEqual(['a']);
  });

  it('may begin with a byte order mark, as written by Windows, compressed or not', async () => {
    const text = '\uFEFF{"text": "a"}\r\n{"text": "\uFEFFb"}\r\n';
    expect(await documentsOf(file('marked.jsonl', text))).toEqual(['a', '\uFEFFb']);
    expect(await documentsOf(file('marked.jsonl.gz', gzipSync(text)))).toEqual(['a', '\uFEFFb']);
    const path = file('marked.jsonl', text);
    expect(await documentsOf({ path, start: 1, end: null })).toEqual(['\uFEFFb']);
  });

  it('is read with every line exactly once, for any slicing', async () => {
    const texts = fc.array(fc.string({ unit: 'binary', minLength: 1, maxLength: 8 }), { minLength: 1 });
    await fc.assert(
      fc.asyncProperty(texts, fc.array(fc.nat(400)), fc.boolean(), async (some, cuts, closed) => {
        const lines = some.map((text) => JSON.stringify({ text })).join('\n');
        const path = file('sliced.jsonl', closed ? `${lines}\n` : lines);
        const bounds = [0, ...cuts.sort((a, b) => a - b)];
        const found: string[] = [];
        for (const [i, start] of bounds.entries()) {
          found.push(...(await documentsOf({ path, start, end: bounds[i + 1] ?? null })));
        }
        expect(found).toEqual(some);
      }),
      { numRuns: 200 },
    );
  });

  it.each([
    ['{"text": "a"}\n{"text": ', 'the line at byte 14 is not JSON'],
    ['[1]\n', 'the line at byte 0 is not a JSON object'],
    [
      '{"text": "a"}\n{"body": "b", "id": 1}',
      "byte 14 has no text in its field 'text': text is in body; name it with --field",
    ],
    ['{"text": 1}', "has no text in its field 'text': no other field is text"],
  ])('%j is rejected: %s', async (text, message) => {
    const path = file('wrong.jsonl', text);
    await expect(documentsOf(path)).rejects.toThrow(InputError);
    await expect(documentsOf(path)).rejects.toThrow(message);
    await expect(documentsOf(path)).rejects.toThrow(path);
  });
});

describe('compressed files', () => {
  /** Two frames of zstd 1.5, as in `cat a.zst b.zst`. */
  const TWO_FRAMES = Buffer.from(
    'KLUv/SQKUQAAZnJhbWUgb25lCoa3phsotS/9JDHdAACoZnJhbWUgdHdvLCBpcyBsb25nZXIKAQDEFCaeNun7',
    'base64',
  );
  const TWO_FRAMES_TEXT = `frame one\nframe two, is${' longer'.repeat(5)}\n`;

  it('are recognized by their first bytes and read to the end of the last frame', async () => {
    const text = '{"text": "a"}\n'.repeat(1000);
    const path = file('a.jsonl.gz', Buffer.concat([gzipSync(text), gzipSync('{"text": "b"}')]));
    expect(await documentsOf(path)).toEqual([...Array(1000).fill('a'), 'b']);
    expect(await documentsOf(file('zstd.txt', TWO_FRAMES))).toEqual([TWO_FRAMES_TEXT]);
  });

  it.each<[kind: string, whole: Buffer, signature: number]>([
    ['gzip', gzipSync('a text that is packed'), 4],
    ['zstd', TWO_FRAMES, 4],
    ['xz', XZ, 6],
    ['bzip2', BZIP2, 10],
  ])('truncated at any byte after the signature are rejected: %s', async (kind, whole, signature) => {
    for (let bytes = signature; bytes < whole.length; bytes++) {
      if (kind === 'zstd' && bytes === 23) continue; // the end of the first frame
      const path = file('cut', whole.subarray(0, bytes));
      await expect(documentsOf(path), `${bytes} bytes`).rejects.toThrow(`${path}: damaged or truncated`);
    }
  });

  it('are rejected if damaged or followed by other bytes', async () => {
    const flipped = Buffer.from(TWO_FRAMES);
    flipped[12] = (flipped[12] as number) ^ 1; // breaks its checksum
    for (const bytes of [flipped, Buffer.concat([TWO_FRAMES, Buffer.from('and more')])]) {
      const path = file('damaged', bytes);
      await expect(documentsOf(path)).rejects.toThrow(`${path}: damaged or truncated zstd`);
    }
  });
});
