/** `mod data prepare` and `mod data info`: their output, kills, numbers of jobs, rejected input. */
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dataInfoCommand } from '../../src/commands/data-info.js';
import {
  type DataPrepareOptions,
  dataPrepareCommand,
  type PrepareSummary,
} from '../../src/commands/data-prepare.js';
import { planCommand } from '../../src/commands/plan.js';
import { type Product, parseSweepFile } from '../../src/config/sweep-file.js';
import type { FileContents } from '../../src/data/inspect.js';
import { openTokens } from '../../src/data/tokens.js';
import { InputError } from '../../src/errors.js';
import { TINY_END_OF_TEXT, TINY_VOCABULARY, writeTinyTokenizer } from '../support/tokenizer.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-data-'));
afterAll(() => rmSync(folder, { recursive: true }));

const DOCUMENTS = Array.from({ length: 400 }, (_, i) => `document ${i} says the ${'word '.repeat(i % 7)}\n`);
const lines = (documents: string[]) => documents.map((text) => `${JSON.stringify({ text })}\n`).join('');
let input: string;

beforeAll(() => {
  input = join(folder, 'input');
  mkdirSync(input);
  writeFileSync(join(input, 'a.jsonl'), lines(DOCUMENTS.slice(0, 200)));
  writeFileSync(join(input, 'b.jsonl.gz'), gzipSync(lines(DOCUMENTS.slice(200, 300))));
  writeFileSync(join(input, 'c.txt'), DOCUMENTS.slice(300).join('\0'));
});

const options = (out: string, other: Partial<DataPrepareOptions> = {}): DataPrepareOptions => ({
  out: join(folder, out),
  tokenizer: 'bytes',
  field: 'text',
  separator: '\\0',
  heldoutShare: 0.2,
  seed: 0,
  partBytes: 4000, // of about 12 kB
  unchecked: false,
  skipBad: false,
  jobs: 1,
  json: true,
  quiet: true,
  ...other,
});

async function prepare(out: string, other: Partial<DataPrepareOptions> = {}): Promise<PrepareSummary> {
  const printed: string[] = [];
  await dataPrepareCommand([`${input}/*`], options(out, other), (text) => printed.push(text));
  return JSON.parse(printed.join());
}

/** The content of every shard. */
function shards(out: string): Record<string, string> {
  const names = readdirSync(join(folder, out)).filter((name) => name.endsWith('.bin'));
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, out, name), 'hex')]));
}

async function textOf(out: string, role: 'train' | 'heldout'): Promise<string[]> {
  const data = { train: ['train-*.bin'], heldout: ['heldout-*.bin'], vocab_size: 256, tokenizer: 'bytes' };
  const source = await openTokens({ ...data, token_bytes: 2 }, role, join(folder, out));
  const tokens = new Int32Array(source.tokens);
  source.read(0, tokens);
  source.close();
  return Buffer.from(Uint8Array.from(tokens)).toString().split('\0').slice(0, -1);
}

describe('mod data prepare', () => {
  it('puts every document into one split, with about the requested share held out', async () => {
    const { documents, tokens, text_bytes } = await prepare('all');
    const [train, heldout] = [await textOf('all', 'train'), await textOf('all', 'heldout')];
    expect([...train, ...heldout].sort()).toEqual([...DOCUMENTS].sort());
    expect(documents).toEqual({ train: train.length, heldout: heldout.length });
    expect(heldout.length / DOCUMENTS.length).toBeGreaterThan(0.12);
    expect(heldout.length / DOCUMENTS.length).toBeLessThan(0.28);
    const bytes = DOCUMENTS.join('').length;
    expect(text_bytes).toBe(bytes);
    expect(tokens.train + tokens.heldout).toBe(bytes + DOCUMENTS.length);
  });

  it('warns of a small held-out text, with the share that mends it', async () => {
    const path = join(folder, 'few.jsonl');
    const printed = async (documents: number, length: number, heldoutShare: number) => {
      writeFileSync(path, lines(Array.from({ length: documents }, (_, i) => `${i} `.padEnd(length, 'x'))));
      const out = options(`few-${documents}-${length}`);
      const text: string[] = [];
      await dataPrepareCommand([path], { ...out, json: false, heldoutShare }, (part) => text.push(part));
      return /^warning: .*$/m.exec(text.join('\n'))?.[0] ?? null;
    };
    const small =
      'warning: the held-out text is small, its losses depend on the documents that it happens to contain: ';
    expect(await printed(600, 5000, 0.1)).toBeNull();
    expect(await printed(120, 5000, 0.05)).toMatch(
      new RegExp(`^${small}--heldout-share 0\\.[12] and another --out hold out more$`),
    );
    expect(await printed(20, 50, 0.2)).toBe(
      `${small}prepare more text, or divide it into more documents with --separator`,
    );
  });

  it('holds out the same documents in any file, others with another seed, copies together', async () => {
    const before = new Set(await textOf('all', 'heldout'));
    const path = join(folder, 'twice.jsonl');
    writeFileSync(path, lines([...DOCUMENTS.slice(200), ...DOCUMENTS]));
    await dataPrepareCommand([path], options('twice'), () => undefined);
    expect(new Set(await textOf('twice', 'heldout'))).toEqual(before);
    expect((await textOf('twice', 'train')).some((document) => before.has(document))).toBe(false);
    await prepare('seed', { seed: 1 });
    expect(new Set(await textOf('seed', 'heldout'))).not.toEqual(before);
  });

  it('a repeated call makes the missing parts, and the same shards', async () => {
    const whole = shards('all');
    await prepare('again');
    const parts = readdirSync(join(folder, 'again/parts'));
    expect(parts.length).toBeGreaterThan(3);
    // The state of a part after a kill: no record, one complete shard, one incomplete.
    rmSync(join(folder, 'again/parts/00001.json'));
    rmSync(join(folder, 'again/train-00001-00.bin'));
    writeFileSync(join(folder, 'again/.train-00001-00.bin.tmp'), 'half of it');
    writeFileSync(join(folder, 'again/heldout-00001-00.bin'), 'of a kill before the record');
    const summary = await prepare('again');
    expect(summary.parts_done_before).toBe(parts.length - 1);
    expect(shards('again')).toEqual(whole);
    expect(readdirSync(join(folder, 'again')).filter((name) => name.endsWith('.tmp'))).toEqual([]);
    expect(await prepare('again')).toMatchObject({
      ...summary,
      bytes_per_second: null,
      parts_done_before: parts.length,
    });
  });

  it('makes parts with missing or truncated shards again, with the same shards', async () => {
    const whole = shards('all');
    const { parts_done_before: _, bytes_per_second: __, ...same } = await prepare('lost');
    const parts = readdirSync(join(folder, 'lost/parts')).length;
    const names = Object.keys(whole).filter((name) => name.startsWith('heldout'));
    for (const name of names) rmSync(join(folder, 'lost', name));
    const summary = await prepare('lost');
    expect(summary).toMatchObject({ ...same, parts_done_before: parts - names.length });
    expect(shards('lost')).toEqual(whole);
    truncateSync(join(folder, 'lost/train-00001-00.bin'), 2000);
    expect((await prepare('lost')).parts_done_before).toBe(parts - 1);
    expect(shards('lost')).toEqual(whole);
  });

  it('after a kill, a repeated call with more jobs gives the shards of an uninterrupted call', async () => {
    const large = join(folder, 'large.jsonl');
    writeFileSync(large, lines(Array.from({ length: 40_000 }, (_, i) => `${DOCUMENTS[i % 400]}${i}`)));
    const run = (out: string, jobs: number) => {
      const flags = ['--tokenizer', 'gpt2', '--part-bytes', '100000', '--jobs', String(jobs), '--json'];
      const args = ['bin/mod.js', 'data', 'prepare', large, '--out', join(folder, out), ...flags];
      return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    };
    const ended = (child: ReturnType<typeof run>) =>
      new Promise<{ code: number | null; printed: string }>((resolve) => {
        let printed = '';
        child.stdout?.on('data', (chunk) => {
          printed += chunk;
        });
        child.on('close', (code) => resolve({ code, printed }));
      });
    const finished = (folder: string) =>
      existsSync(folder) ? readdirSync(folder).filter((name) => /^\d+\.json$/.test(name)).length : 0;
    const killed = run('killed', 1);
    const records = join(folder, 'killed/parts');
    const end = ended(killed);
    while (finished(records) < 2) await new Promise((r) => setTimeout(r, 5));
    killed.kill('SIGKILL');
    expect((await end).code).toBeNull();
    const second = await ended(run('killed', 2));
    expect(second.code).toBe(0);
    const summary: PrepareSummary = JSON.parse(second.printed);
    expect(summary.parts_done_before).toBeGreaterThanOrEqual(2);
    const uninterrupted = options('uninterrupted', {
      tokenizer: 'gpt2',
      heldoutShare: 0.01,
      partBytes: 100_000,
    });
    const { separator: _, ...sameAsCli } = uninterrupted;
    await dataPrepareCommand([large], sameAsCli, () => undefined);
    expect(shards('killed')).toEqual(shards('uninterrupted'));
  });

  it('copies tokenizer.json next to the shards, and prints the data section for a sweep file', async () => {
    const tokenizer = join(folder, 'tiny.json');
    writeTinyTokenizer(tokenizer);
    const printed: string[] = [];
    const tiny = options('tiny', { tokenizer, json: false });
    await dataPrepareCommand([`${input}/*`], tiny, (text) => printed.push(text));
    expect(readFileSync(join(folder, 'tiny/tokenizer.json'))).toEqual(readFileSync(tokenizer));
    const yaml = printed.join('\n').split(/^In a sweep file.*$/m)[1];
    const sweep = join(process.cwd(), 'printed-by-data-test.yaml'); // the paths are relative to here
    writeFileSync(sweep, `name: a\nflop_budgets: [1e11]\nsequence_length: 64\nbatch_sequences: 4\n${yaml}`);
    try {
      const plan: string[] = [];
      await planCommand(sweep, { json: true, results: 'results' }, (text) => plan.push(text), undefined, []);
      const [row] = JSON.parse(plan.join());
      expect(row.epochs).toBeGreaterThan(0);
    } finally {
      rmSync(sweep);
    }
    expect(yaml).toContain(`vocab_size: ${TINY_VOCABULARY}`);
  });

  it('prints a valid data section for any folder name', async () => {
    const whole = await textOf('all', 'train');
    for (const name of ['odd (1) [x] {a,b}', '!kept: #1', 'it\'s a "tab"']) {
      const printed: string[] = [];
      await dataPrepareCommand([`${input}/*`], options(name, { json: false }), (text) => printed.push(text));
      const yaml = printed.join('\n').split(/^In a sweep file.*$/m)[1];
      const here = join(process.cwd(), 's.yaml'); // the paths are relative to here
      const { products, dir } = parseSweepFile(here, `name: a\nflop_budgets: [1e11]\n${yaml}`);
      const source = await openTokens((products[0] as Product).data, 'train', dir);
      expect(source.files.map((path) => dirname(path))).toEqual(source.files.map(() => join(folder, name)));
      expect(source.tokens).toBe(whole.join('\0').length + 1);
      source.close();
    }
  });

  it('reads the files below a folder, whatever its name', async () => {
    const below = join(folder, 'odd [x]', 'below');
    mkdirSync(below, { recursive: true });
    writeFileSync(join(below, 'a.jsonl'), lines(DOCUMENTS));
    writeFileSync(join(below, '..', '.hidden'), 'not read');
    const printed: string[] = [];
    for (const name of ['odd [x]', 'odd [x]/']) {
      const how = options(`of-${name.length}`);
      await dataPrepareCommand([join(folder, name)], how, (text) => printed.push(text));
    }
    for (const text of printed) {
      const { documents } = JSON.parse(text) as PrepareSummary;
      expect(documents.train + documents.heldout).toBe(DOCUMENTS.length);
    }
    expect(printed).toHaveLength(2);
  });

  it('resumes with a folder that contains its own output', async () => {
    const out = join(folder, 'own');
    mkdirSync(out);
    writeFileSync(join(out, 'text.jsonl'), lines(DOCUMENTS));
    const call = async () => {
      const printed: string[] = [];
      await dataPrepareCommand([out], options('own'), (text) => printed.push(text));
      return JSON.parse(printed.join()) as PrepareSummary;
    };
    const { documents } = await call();
    expect(await call()).toMatchObject({ documents, bytes_per_second: null });
  });

  it('counts the documents with bytes that are not UTF-8', async () => {
    const path = join(folder, 'invalid.txt');
    const odd = Buffer.concat([Buffer.from('éé\0è'), Buffer.of(0xe9), Buffer.from('é\0')]);
    writeFileSync(path, Buffer.concat([odd, Buffer.from(DOCUMENTS.join('\0'))]));
    const tokenizer = join(folder, 'invalid.json');
    writeTinyTokenizer(tokenizer);
    const printed: string[] = [];
    await dataPrepareCommand([path], options('invalid', { tokenizer, json: false }), (text) =>
      printed.push(text),
    );
    expect(printed.join()).toContain('1 documents have bytes that are not UTF-8: they became U+FFFD');
  });

  it('counts and lists the lines without a text under --skip-bad, and otherwise names the option', async () => {
    const path = join(folder, 'bad.jsonl');
    const bad = ['{"text": null}', '{"text": "cut', '[1]'];
    writeFileSync(path, `${lines(DOCUMENTS)}${bad.join('\n')}\n`);
    const call = (skipBad: boolean) => {
      const printed: string[] = [];
      const how = options('bad', { skipBad, json: false });
      return dataPrepareCommand([path], how, (text) => printed.push(text)).then(() => printed.join());
    };
    const at = lines(DOCUMENTS).length;
    const first = `${path}: the line at byte ${at} has no text in its field 'text': no other field is text; name it with --field`;
    await expect(call(false)).rejects.toThrow(`${first}; --skip-bad leaves such lines out`);
    expect(await call(true)).toContain('skipped: 3 lines or rows without a text');
    expect(readFileSync(join(folder, 'bad/skipped.txt'), 'utf8')).toBe(
      [
        first,
        `${path}: the line at byte ${at + 15} is not JSON`,
        `${path}: the line at byte ${at + 29} is not a JSON object`,
        '',
      ].join('\n'),
    );
    expect((await textOf('bad', 'train')).length).toBe((await textOf('all', 'train')).length);
  });

  it('accepts a folder in which an earlier call finished no part', async () => {
    await expect(prepare('wrong-at-first', { field: 'body', partBytes: 2 ** 30 })).rejects.toThrow('--field');
    writeFileSync(join(folder, 'wrong-at-first/train-00009-00.bin'), 'left by it');
    expect((await prepare('wrong-at-first')).parts_done_before).toBe(0);
    expect(shards('wrong-at-first')).toEqual(shards('all'));
  });

  it('rejects a folder with other tokens, and names the difference', async () => {
    await expect(prepare('all', { seed: 7 })).rejects.toThrow('made with another seed');
    await expect(prepare('all', { tokenizer: 'gpt2' })).rejects.toThrow(
      'made with another tokenizer, vocab_size, end_of_text',
    );
    mkdirSync(join(folder, 'others'));
    writeFileSync(join(folder, 'others/train-00000-00.bin'), 'of llm.c');
    await expect(prepare('others')).rejects.toThrow(
      'contains train-00000-00.bin, which mod data prepare did not write here',
    );
    const path = join(folder, 'changes.jsonl');
    writeFileSync(path, lines(DOCUMENTS));
    const again = () => dataPrepareCommand([path], options('changes'), () => undefined);
    await again();
    utimesSync(path, 1, 1);
    await expect(again()).rejects.toThrow('input files were added, removed or changed since');
  });

  it('names the option that chooses the output folder if it cannot be written', async () => {
    await expect(prepare('input/a.jsonl/below')).rejects.toThrow(/; choose another --out$/);
  });

  it.each<[string, Partial<DataPrepareOptions>]>([
    ["no token 'odd'", { endOfText: 'odd', tokenizer: 'gpt2' }],
    ['--separator: expected the text between two documents', { separator: '' }],
    ['cannot be read', { tokenizer: 'nowhere.json' }],
    ['byte: neither bytes, gpt2 nor the path of a tokenizer.json', { tokenizer: 'byte' }],
    ["no text in its field 'body': text is in text", { field: 'body' }],
    ['no document was held out: 400 documents', { heldoutShare: 1e-9 }],
  ])('rejects: %s', async (message, other) => {
    const out = `rejected-${message.replace(/\W+/g, '-')}`;
    await expect(prepare(out, other)).rejects.toThrow(InputError);
    await expect(prepare(out, other)).rejects.toThrow(message);
  });

  it('rejects a single document, then accepts a call that splits it in the same folder', async () => {
    const path = join(folder, 'book.txt');
    writeFileSync(path, DOCUMENTS.join('\n'));
    const printed: string[] = [];
    const tokenizer = join(folder, 'book.json');
    writeTinyTokenizer(tokenizer);
    const { separator: _, ...undivided } = options('book', { tokenizer });
    const call = (how: DataPrepareOptions) => dataPrepareCommand([path], how, (text) => printed.push(text));
    await expect(call(undivided)).rejects.toThrow(
      'the text is a single document: split the text into documents, for example at empty lines with --separator "\\n\\n"',
    );
    expect(printed).toEqual([]);
    expect(readdirSync(join(folder, 'book'))).toEqual(['.lock']);
    await call({ ...undivided, separator: '\\n\\n' });
    expect(printed).toHaveLength(1);
  });
});

describe('mod data info', () => {
  const info = async (pattern: string, other = {}) => {
    const printed: string[] = [];
    const usual = { field: 'text', tokenBytes: 2 as const, unchecked: false, json: true };
    await dataInfoCommand([pattern], { ...usual, ...other }, (text) => printed.push(text));
    return JSON.parse(printed.join()) as FileContents[];
  };

  it('prints documents, vocabulary and text of shards from mod data prepare', async () => {
    const files = await info(join(folder, 'tiny/*.bin'));
    const documents = files.reduce((sum, file) => sum + (file.documents ?? 0), 0);
    expect(documents).toBe(DOCUMENTS.length);
    for (const file of files) {
      expect(file.format).toBe('llm.c shard, uint16');
      expect(file.largest_token).toBe(TINY_END_OF_TEXT);
      expect(file.vocabulary_in_use).toBeLessThan(40);
      expect(file.sample).toMatch(/^document \d+ says the/);
    }
  });

  it('prints the tokens that a text file would have', async () => {
    const [a] = await info(join(input, 'a.jsonl'));
    expect(a).toMatchObject({
      format: 'JSONL',
      documents: 200,
      tokens: DOCUMENTS.slice(0, 200).join('').length,
    });
    const [b] = await info(join(input, 'b.jsonl.gz'), { tokenizer: 'gpt2' });
    expect(b).toMatchObject({ format: 'JSONL, gzip', documents: 100 });
    expect(b?.sample).toMatch(/^document 200 says/);
  });

  it('prints the tokens of a file without a header as numbers', async () => {
    writeFileSync(join(folder, 'bare.bin'), Uint16Array.of(7, 5000, 7));
    expect(await info(join(folder, 'bare.bin'))).toEqual([
      {
        file: join(folder, 'bare.bin'),
        format: 'bare tokens, uint16',
        tokens: 3,
        documents: null,
        vocabulary_in_use: 2,
        largest_token: 5000,
        sample: null,
        first_tokens: [7, 5000, 7],
      },
    ]);
  });

  it('rejects a token outside the vocabulary and a damaged shard, with file and byte', async () => {
    writeFileSync(join(folder, 'bare.bin'), Uint16Array.of(7, 5000, 7));
    const bare = join(folder, 'bare.bin');
    await expect(info(bare, { tokenizer: 'bytes' })).rejects.toThrow(
      `${bare}: the token 5000 at byte 2 is outside the vocabulary of 256`,
    );
    const [first] = Object.keys(shards('all')) as [string];
    const cut = join(folder, 'cut.bin');
    writeFileSync(cut, readFileSync(join(folder, 'all', first)).subarray(0, 2000));
    await expect(info(cut)).rejects.toThrow(`${cut}: a truncated shard`);
    expect(basename(first)).toMatch(/^(train|heldout)-\d{5}-\d\d\.bin$/);
  });
});
