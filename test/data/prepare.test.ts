/** Written shards are read back unchanged; parts contain every byte of the input once. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, expect, it } from 'vitest';
import { inputFile, planParts } from '../../src/data/prepare.js';
import { readProgress } from '../../src/data/progress.js';
import { ShardWriter, shardTokenBytes } from '../../src/data/shards.js';
import { openTokenFile, openTokens } from '../../src/data/tokens.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-prepare-'));
afterAll(() => rmSync(folder, { recursive: true }));

it('shards contain the added tokens in order, none larger than its limit', async () => {
  let round = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom<[2 | 4, number]>([2, 2 ** 16], [4, 2 ** 31 - 1]),
      fc.array(fc.array(fc.nat(2 ** 31 - 2), { maxLength: 30 }), { minLength: 1, maxLength: 20 }),
      fc.integer({ min: 1, max: 60 }),
      async ([tokenBytes, vocabulary], rows, shardTokens) => {
        round += 1;
        const writer = new ShardWriter((i) => join(folder, `r${round}-${i}.bin`), tokenBytes, shardTokens);
        const documents = rows.map((row) => row.map((token) => token % vocabulary));
        for (const document of documents) writer.add(document);
        writer.finish();
        const all = documents.flat();
        expect(writer.tokens).toBe(all.length);
        expect(writer.paths).toHaveLength(Math.ceil(all.length / shardTokens));
        if (all.length === 0) return;
        const data = { train: [`r${round}-*.bin`], heldout: [], tokenizer: null, token_bytes: 2 as const };
        const read = await openTokens({ ...data, vocab_size: vocabulary }, 'train', folder);
        const out = new Int32Array(read.tokens);
        // Sorted by name, ten or more shards would be in another order.
        const sources = writer.paths.map((path) => openTokenFile(path, 2, vocabulary));
        let at = 0;
        for (const source of sources) {
          source.read(0, out.subarray(at, at + source.tokens));
          at += source.tokens;
          source.close();
        }
        read.close();
        expect([...out]).toEqual(all);
      },
    ),
    { numRuns: 40 },
  );
});

it('a shard gets its final name only when it is complete', () => {
  const path = join(folder, 'whole.bin');
  const writer = new ShardWriter(() => path, 2, 1e6);
  writer.add(new Uint8Array(600_000));
  expect(existsSync(path)).toBe(false);
  writer.finish();
  expect(readFileSync(path)).toHaveLength(1024 + 2 * 600_000);
  expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
});

it.each([
  [256, 2],
  [65536, 2],
  [65537, 4],
])('a vocabulary of %i takes %i bytes per token', (vocabulary, expected) => {
  expect(shardTokenBytes(vocabulary)).toBe(expected);
});

it('parts contain every byte once, in the order of the files, and about the requested size', () => {
  const sizes = fc.array(fc.record({ bytes: fc.nat(500), lines: fc.boolean() }), {
    minLength: 1,
    maxLength: 8,
  });
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 200 }), (some, partBytes) => {
      const files = some.map(({ bytes, lines }, i) => {
        const path = join(folder, `${i}.${lines ? 'jsonl' : 'txt'}`);
        writeFileSync(path, 'x'.repeat(bytes));
        const content = lines ? ('jsonl' as const) : ('text' as const);
        const format = { content, compression: null, encoding: 'utf-8' as const, markBytes: 0 };
        return { ...inputFile(path), format };
      });
      const parts = planParts(files, partBytes);
      expect(parts.map(({ index }) => index)).toEqual(parts.map((_, i) => i));
      const slices = parts.flatMap((part) => part.slices);
      for (const { path, bytes } of files) {
        const own = slices.filter((slice) => slice.path === path);
        expect(own[0]?.start).toBe(0);
        expect(own.at(-1)?.end).toBeNull();
        own.slice(1).forEach(({ start }, i) => {
          expect(start).toBe(own[i]?.end);
        });
        if (!path.endsWith('.jsonl')) expect(own).toHaveLength(1);
        else expect(own).toHaveLength(Math.max(1, Math.ceil(bytes / partBytes)));
      }
      for (const part of parts) {
        if (part.slices.length === 1) continue;
        const bytes = part.slices.map(({ path }) => files.find((file) => file.path === path)?.bytes ?? 0);
        expect(bytes.reduce((sum, one) => sum + one, 0)).toBeLessThanOrEqual(partBytes);
      }
    }),
    { numRuns: 100 },
  );
});

it('progress without a terminal is one plain line per interval', () => {
  const written: string[] = [];
  const out = { isTTY: false, write: (text: string) => written.push(text) } as unknown as NodeJS.WriteStream;
  let clock = 0;
  const progress = readProgress({ total: 4e6, done: 1e6, out, now: () => clock, interval: 1000 });
  progress.add(5e5);
  clock = 1000;
  progress.add(5e5);
  progress.add(1);
  progress.close();
  expect(written).toEqual(['1.91 MiB of 3.81 MiB read, 977 KiB/s, 2s left\n']);
});
