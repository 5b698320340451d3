/** Held-out text that is training text: the same files, copied passages, not what many documents repeat; too little of it. */
import { copyFileSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { heldoutWarnings } from '../../src/data/heldout-check.js';
import type { TokenSource } from '../../src/data/token-source.js';
import { openTokens } from '../../src/data/tokens.js';
import { InputError } from '../../src/errors.js';

const VOCABULARY = 50_257;

/** A text without repetitions: the token of a position. */
type Text = (position: number) => number;
const text =
  (seed: number): Text =>
  (position) => {
    const mixed = Math.imul((position + 1) ^ (seed << 26), 0x9e3779b1);
    return (Math.imul(mixed ^ (mixed >>> 15), 0x85ebca6b) >>> 8) % VOCABULARY;
  };
const [OWN, OTHER] = [text(1), text(2)];

function source(tokens: number, of: Text): TokenSource {
  return {
    tokens,
    files: [],
    read: (start, out) => {
      for (let i = 0; i < out.length; i++) out[i] = of(start + i);
    },
    close: () => undefined,
  };
}

/** `into` with a passage of `of`, which begins at `from` there. */
const withPassage =
  (into: Text, at: number, length: number, of: Text, from: number): Text =>
  (position) =>
    position >= at && position < at + length ? of(from + position - at) : into(position);

const use = { sequenceLength: 64, sequences: 8, vocabSize: VOCABULARY };
const warnings = (train: TokenSource, heldout: TokenSource) => heldoutWarnings(train, heldout, use);
const copies = (share: number) => [
  `about ${share}% of the held-out text is in the training text as well, by a comparison of passages, so the held-out losses are too low: hold out other documents`,
];

describe('copied passages', () => {
  const heldout = source(100 * 1024, OTHER);

  it('none in another text', () => {
    expect(warnings(source(300_000, OWN), heldout)).toEqual([]);
  });

  it('a share of the held-out text, at any position', () => {
    const train = source(300_000, withPassage(OWN, 77_777, 30 * 1024, OTHER, 10 * 1024));
    expect(warnings(train, heldout)).toEqual(copies(30));
    expect(warnings(source(200_000, OTHER), heldout)).toEqual(copies(100));
  });

  it('in a corpus of which a part is read', () => {
    expect(warnings(source(60e6, OWN), heldout)).toEqual([]);
    const own = source(1e6, (position) => OWN(40e6 + position));
    const [line, ...more] = warnings(source(60e6, OWN), own);
    expect(more).toEqual([]);
    expect(Number(/^about (\d+)% of the held-out text/.exec(line ?? '')?.[1])).toBeGreaterThan(80);
  });

  it('not what many documents repeat, even if it fills half of the held-out text', () => {
    const licensed =
      (own: Text): Text =>
      (position) =>
        position % 2000 < 1100 ? text(3)(position % 2000) : own(position);
    expect(warnings(source(300_000, licensed(OWN)), source(100_000, licensed(OTHER)))).toEqual([]);
    expect(warnings(source(60e6, licensed(OWN)), source(100_000, licensed(OTHER)))).toEqual([]);
    expect(
      warnings(
        source(300_000, () => 7),
        source(100_000, () => 7),
      ),
    ).toEqual([]); // one character
  });
});

it('a held-out text with fewer sequences than an evaluation has', () => {
  expect(warnings(source(300_000, OWN), source(8 * 64 + 1, OTHER))).toEqual([]);
  expect(warnings(source(300_000, OWN), source(6 * 64 + 1, OTHER))).toEqual([
    'the held-out text has 6 sequences of 64 tokens, evaluation.sequences asks for 8: losses of so few depend on the documents they happen to contain. Hold out more text (mod data prepare --heldout-share), or decrease evaluation.sequences',
  ]);
});

describe('files', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'mod-heldout-'));
    for (const name of ['a', 'b', 'c']) writeFileSync(join(folder, `${name}.txt`), `${name} `.repeat(500));
    symlinkSync('a.txt', join(folder, 'link.txt'));
    copyFileSync(join(folder, 'b.txt'), join(folder, 'copy.txt'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const check = async (train: string[], heldout: string[], vocabSize = 256) => {
    const data = { text: train, heldout_text: heldout, tokenizer: 'bytes', vocab_size: 256 };
    const sources = [
      await openTokens(data, 'train', folder),
      await openTokens(data, 'heldout', folder),
    ] as const;
    return heldoutWarnings(...sources, { ...use, vocabSize });
  };

  it.each([
    [['a.txt', 'b.txt'], ['c.txt'], null],
    [['*.txt'], ['c.txt'], '1 of 1 held-out file is also among the training files'],
    [['*.txt', '!c.txt'], ['c.txt'], null],
    [['a.txt', 'b.txt'], ['link.txt', 'c.txt'], '1 of 2 held-out files is also among the training files'],
    [['a.txt', 'b.txt'], ['copy.txt', 'link.txt'], '2 of 2 held-out files are also among the training files'],
  ])('%j and %j: %s', async (train, heldout, expected) => {
    const [line, ...more] = await check(train, heldout);
    expect(more).toEqual([]);
    if (expected === null) expect(line).toBeUndefined();
    else
      expect(line).toBe(
        `${expected}, by path or content, so the held-out losses are too low: ${heldout.filter((name) => name !== 'c.txt' || train[0] === '*.txt').join(', ')}. Leave them out there: a pattern that starts with ! excludes files`,
      );
  });

  it('with tokens outside the vocabulary are an error, as in training', async () => {
    const shards = {
      train: ['t.bin'],
      heldout: ['h.bin'],
      vocab_size: 256,
      tokenizer: null,
      token_bytes: 2 as const,
    };
    for (const name of ['t', 'h']) {
      writeFileSync(
        join(folder, `${name}.bin`),
        Uint16Array.from({ length: 4000 }, (_, i) => 200 + (i % 90)),
      );
    }
    const [train, heldout] = [
      await openTokens(shards, 'train', folder),
      await openTokens(shards, 'heldout', folder),
    ];
    expect(() => heldoutWarnings(train, heldout, { ...use, vocabSize: 256 })).toThrow(InputError);
    expect(() => heldoutWarnings(train, heldout, { ...use, vocabSize: 256 })).toThrow(
      /[th]\.bin: the token 256 at byte 112 is outside the vocabulary of 256/,
    );
  });
});
