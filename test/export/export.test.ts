/** `mod export`: event files byte by byte and, if installed, by TensorBoard; W&B's files; the Python lines of docs/results.md. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportCommand } from '../../src/commands/export.js';
import { InputError } from '../../src/errors.js';
import { crc32c, eventFile } from '../../src/export/tensorboard.js';
import { readSafetensors } from '../../src/files/safetensors.js';
import { syntheticRuns, writeSweep } from '../report/synthetic.js';

const hasPython = (...modules: string[]) =>
  spawnSync('python3', ['-c', `import ${modules.join(', ')}`], { stdio: 'ignore' }).status === 0;
const python = (program: string) =>
  JSON.parse(execFileSync('python3', ['-c', program], { encoding: 'utf8' }));

let results: string;
beforeAll(() => {
  results = mkdtempSync(join(tmpdir(), 'mod-export-'));
  const runs = syntheticRuns({ file: 'flop_budgets: [1e15]\ncapacities: [0.125]\n' }).slice(6, 9);
  writeSweep(results, runs);
});
afterAll(() => rmSync(results, { recursive: true }));

async function exported(format: 'tensorboard' | 'wandb', target = 'made'): Promise<string> {
  await exportCommand(target, { format, results }, () => undefined);
  const folder = join(results, 'made', 'export', format);
  return join(folder, readdirSync(folder).find((name) => name.includes('-mod-')) as string);
}

it.each([
  ['123456789', 0xe3069283],
  ['', 0],
  // RFC 3720, appendix B.4: 32 bytes of zeros.
  ['\0'.repeat(32), 0x8a9136aa],
])('CRC-32C of %j', (text, crc) => expect(crc32c(Buffer.from(text))).toBe(crc));

describe('an event file', () => {
  it('consists of records with consistent lengths and the fields of Event', () => {
    const file = eventFile([{ tag: 'a/b', step: 300, value: 0.5, wallTime: 1234.5 }], 1000);
    const records: Buffer[] = [];
    for (let at = 0; at < file.length; ) {
      const length = Number(file.readBigUInt64LE(at));
      records.push(file.subarray(at + 12, at + 12 + length));
      at += 16 + length;
    }
    const [version, event] = records.map((data) => data.toString('hex'));
    // double 1000, string 3 'brain.Event:2'
    expect(version).toBe(`09${'0000000000408f40'}1a0d${Buffer.from('brain.Event:2').toString('hex')}`);
    // double 1234.5, varint 300, message 5 { message 1 { string 1 'a/b', float 2 0.5 } }
    expect(event).toBe(`09${'00000000004a9340'}10ac022a0c0a0a0a03612f62150000003f`);
  });

  it.skipIf(!hasPython('tensorboard'))('can be read by TensorBoard', async () => {
    const folder = await exported('tensorboard');
    const scalars = python(`
import json
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(${JSON.stringify(folder)}, size_guidance={'scalars': 0}).Reload()
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()['scalars']}))`);
    const run = syntheticRuns({ file: 'flop_budgets: [1e15]\ncapacities: [0.125]\n' }).find(({ row }) =>
      folder.endsWith(row.run_id),
    );
    const steps = run?.steps() ?? [];
    expect(scalars['train/loss']).toHaveLength(steps.length);
    expect(scalars['train/loss'][0]).toEqual([steps[0]?.step, Math.fround(steps[0]?.loss as number)]);
    expect(scalars['eval/predictor/loss']).toHaveLength(1);
  });
});

it('W&B’s files contain config, history and summary', async () => {
  const folder = await exported('wandb');
  const read = (name: string) => readFileSync(join(folder, name), 'utf8');
  const init = JSON.parse(read('run.json'));
  expect(init).toMatchObject({ group: 'made', job_type: 'mod', config: { variant: 'mod', seed: 0 } });
  const history = read('wandb-history.jsonl')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(history[0]).toMatchObject({ _step: expect.any(Number), _runtime: expect.any(Number) });
  const steps = history.map(({ _step }) => _step);
  expect(steps).toEqual([...steps].sort((a, b) => a - b));
  expect(history.at(-1)['eval/topk/loss']).toBe(JSON.parse(read('wandb-summary.json')).loss);
});

it('exports one run if the target is a run, and names a sweep that has nothing to export', async () => {
  const [run] = readdirSync(join(results, 'made')).filter((name) => name.startsWith('1e15'));
  const printed: string[] = [];
  const out = join(results, 'one');
  await exportCommand(`made/${run}`, { format: 'wandb', results, out }, (text) => printed.push(text));
  expect(readdirSync(out)).toEqual([run]);
  expect(printed).toEqual([`${out}: 1 run`]);
  writeSweep(
    results,
    syntheticRuns()
      .slice(0, 1)
      .map((one) => ({ ...one, row: { ...one.row, status: 'pending' as const } })),
    'empty',
  );
  await expect(exportCommand('empty', { format: 'wandb', results }, () => undefined)).rejects.toThrow(
    InputError,
  );
});

describe('the Python lines of docs/results.md', () => {
  const lines = /```python\n([\s\S]*?)```/.exec(readFileSync('docs/results.md', 'utf8'))?.[1] ?? '';

  it('are five', () => expect(lines.trim().split('\n')).toHaveLength(5));

  it.skipIf(!hasPython('numpy', 'safetensors'))('load the same checkpoint as the program', () => {
    const folder = 'test/golden/mod-raw-f2';
    const loaded = python(`${lines.replace(/^checkpoint = .*$/m, `checkpoint = '${folder}'`)}
print(json.dumps([config, {name: [list(value.shape), float(value.sum(dtype='float64'))] for name, value in weights.items()}]))`);
    const [config, weights] = loaded as [object, Record<string, [number[], number]>];
    expect(config).toEqual(JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')).model);
    const own = readSafetensors(join(folder, 'weights.safetensors'));
    expect(Object.keys(weights).sort()).toEqual([...own.keys()].sort());
    for (const [name, [shape, sum]] of Object.entries(weights)) {
      const tensor = own.get(name);
      expect(tensor?.shape).toEqual(shape);
      expect([...(tensor?.data ?? [])].reduce((total, value) => total + value, 0)).toBeCloseTo(sum, 9);
    }
  });
});

it('names the option for its folder if the folder cannot be written', async () => {
  const out = join(results, 'made', 'runs.csv', 'curves'); // below a plain file
  await expect(exportCommand('made', { format: 'wandb', results, out }, () => undefined)).rejects.toThrow(
    /^.*curves: cannot write results there: .*; choose another --out$/,
  );
});
