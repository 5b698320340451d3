/** `mod init` on folders of text and of `mod data prepare`: the file that it writes is a valid sweep that fits the data. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { initCommand } from '../../src/commands/init.js';
import { loadSweepFile } from '../../src/config/sweep-file.js';
import { openTokens } from '../../src/data/tokens.js';
import { expandSweep } from '../../src/plan/expand.js';
import { mod } from '../support/mod.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "mod init's "));
  mkdirSync(join(folder, 'texts/more'), { recursive: true });
  for (let i = 0; i < 40; i++) {
    const path = join(folder, 'texts', i % 2 === 0 ? '' : 'more', `${i}.txt`);
    const line = (_: unknown, j: number) =>
      `Text ${i}, line ${j}: the quick brown fox jumps over the lazy dog.\n`;
    writeFileSync(path, Array.from({ length: 1000 }, line).join(''));
  }
  writeFileSync(join(folder, 'texts/picture.png'), Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const init = async (data: string, options: Partial<Parameters<typeof initCommand>[1]> = {}) => {
  const lines: string[] = [];
  const path = join(folder, 'a.yaml');
  const defaults = {
    budget: undefined,
    hours: 5,
    out: path,
    force: true,
    backend: 'wasm',
    precision: 'auto',
  } as const;
  await initCommand(
    join(folder, data),
    { ...defaults, ...options },
    { out: (text) => lines.push(text), err: () => {} },
  );
  return { text: lines.join('\n'), file: loadSweepFile(path), yaml: readFileSync(path, 'utf8') };
};

it('fits a folder of text: other files held out, what is no text left out, two kinds and the control', async () => {
  const { text, file, yaml } = await init('texts');
  const runs = expandSweep(file);
  expect(runs.filter(({ status }) => status === 'pending')).toHaveLength(33);
  const { data } = (runs[0] as (typeof runs)[number]).spec;
  const [train, heldout] = [
    await openTokens(data, 'train', folder),
    await openTokens(data, 'heldout', folder),
  ];
  const total = train.tokens + heldout.tokens;
  expect(total).toBeGreaterThan(2_500_000);
  expect(heldout.tokens / total).toBeGreaterThan(0.05);
  expect(heldout.tokens / total).toBeLessThan(0.1);
  expect(train.files.filter((each) => heldout.files.includes(each))).toEqual([]);
  expect(yaml).toMatch(/# left out: texts\/picture\.png, a PNG image/);
  expect(text).toContain(`Next: mod plan ${join(folder, 'a.yaml')}`);
  expect(text).toMatch(/ 33 runs of [\d.]+e\d+ FLOPs, about \d+[hm]/);
});

it('fits a folder of mod data prepare, with its vocabulary', async () => {
  await mod(
    'data',
    'prepare',
    join(folder, 'texts/*.txt'),
    '--tokenizer',
    'bytes',
    '--separator',
    '\n',
    '--out',
    join(folder, 'data'),
  );
  const { file } = await init('data', { budget: 5e11 });
  const [run] = expandSweep(file);
  expect(run?.spec.flop_budget).toBe(5e11);
  expect(run?.spec.data).toMatchObject({
    train: ['data/train-*.bin'],
    heldout: ['data/heldout-*.bin'],
    tokenizer: 'bytes',
  });
});

it('replaces a file only with --force, and names what is wrong with the data', async () => {
  await expect(init('texts', { force: false })).rejects.toThrow(
    /is there already: give another name with --out/,
  );
  await expect(init('nothing')).rejects.toThrow('no such file or folder');
  await expect(init('texts/0.txt')).rejects.toThrow(
    /mod data prepare .*0\.txt --out data, then mod init data$/,
  );
  mkdirSync(join(folder, 'small'));
  writeFileSync(join(folder, 'small/a.txt'), 'too little');
  await expect(init('small')).rejects.toThrow('too little can be held out as whole files');
});
