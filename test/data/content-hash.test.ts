/** Content hashes: of small files that of sha256sum, of large ones sensitive to size, beginning, end and any moved text. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { contentHash, dataHash, WHOLE_BYTES } from '../../src/data/content-hash.js';
import { dataFiles } from '../../src/data/run-data.js';
import { InputError } from '../../src/errors.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mod-content-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function hashOf(content: Uint8Array): string {
  const path = join(folder, 'a.bin');
  writeFileSync(path, content);
  return contentHash(path);
}

it('is the start of the SHA-256 of a small file, so that any changed byte changes it', () => {
  expect(hashOf(Buffer.from('abc'))).toBe('ba7816bf8f01cfea'); // FIPS 180-2, appendix B.1
  expect(hashOf(Buffer.alloc(0))).toBe('e3b0c44298fc1c14');
  const content = Buffer.alloc(WHOLE_BYTES, 7);
  const before = hashOf(content);
  expect(before).toBe(createHash('sha256').update(content).digest('hex').slice(0, 16));
  content[1234567] = 8;
  expect(hashOf(content)).not.toBe(before);
});

it('of a large file depends on its size, its first and last bytes, and on text that moves', () => {
  const content = Buffer.alloc(3 * WHOLE_BYTES);
  for (let i = 0; i < content.length; i += 4) content.writeUInt32LE((i * 2654435761) % 2 ** 32, i);
  const hashes = [content, content.subarray(0, -1)].map(hashOf);
  for (const at of [0, content.length - 1]) {
    const edited = Buffer.from(content);
    edited[at] = (edited[at] as number) ^ 1;
    hashes.push(hashOf(edited));
  }
  // One byte inserted and one removed at the end: the size is the same, all text after it has moved.
  hashes.push(
    hashOf(Buffer.concat([content.subarray(0, 99999), Buffer.from('x'), content.subarray(99999, -1)])),
  );
  expect(new Set(hashes).size).toBe(hashes.length);
  expect(hashOf(content)).toBe(hashes[0]);
});

it('names a file that cannot be read', () => {
  expect(() => contentHash(join(folder, 'none.bin'))).toThrow(InputError);
  expect(() => contentHash(join(folder, 'none.bin'))).toThrow('none.bin: cannot be read');
});

it('of all data depends on contents and not on names, and is null if a part is missing', () => {
  const of = (train: string[], heldout: string) => {
    const name = (i: number) => join(folder, `${train[i]}-${i}.txt`);
    train.forEach((text, i) => {
      writeFileSync(name(i), text);
    });
    writeFileSync(join(folder, 'h.txt'), heldout);
    const data = {
      text: train.map((_, i) => name(i)),
      heldout_text: [join(folder, 'h.txt')],
      tokenizer: 'bytes',
      vocab_size: 256,
    };
    return dataHash(dataFiles(data, folder));
  };
  const first = of(['a', 'b'], 'c');
  expect(first).toMatch(/^[0-9a-f]{16}$/);
  expect(of(['a', 'b'], 'c')).toBe(first);
  expect(new Set([first, of(['b'], 'c'), of(['a', 'b'], 'd'), of(['a'], 'b')]).size).toBe(4);
  const file = { bytes: 1, hash: 'aa' };
  const heldout = { h: { bytes: 1, hash: 'bb' } };
  expect(dataHash({ train: { a: file }, heldout })).toBe(dataHash({ train: { b: file }, heldout }));
  expect(dataHash({ heldout })).toBeNull();
  expect(dataHash({})).toBeNull();
});
