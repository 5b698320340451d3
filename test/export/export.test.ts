/** `mod export`: event files byte by byte and, if installed, by TensorBoard; W&B's files; the Python lines of docs/results.md. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportCommand } from '../../src/commands/export.js';
import { InputError } from '../../src/errors.js';
import { writeEvents } from '../../src/export/event-file.js';
import { type ReadEvents, readEvents } from '../../src/export/event-reader.js';
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

  it('grows in place: new points follow, what has changed follows a restart, a record that was cut off is replaced', () => {
    const path = join(results, 'events');
    const at = (step: number, value: number, tag = 'loss') => ({ tag, step, value, wallTime: step });
    const shown = () => {
      const { values, bytes } = readEvents(readFileSync(path)) as ReadEvents;
      expect(bytes).toBe(statSync(path).size);
      return Object.fromEntries([...values].map(([tag, curve]) => [tag, [...curve]]));
    };
    writeEvents(path, [at(1, 0.5)], 0);
    const { ino } = statSync(path);
    const first = readFileSync(path);
    expect(first).toEqual(eventFile([at(1, 0.5)], 0));
    writeEvents(path, [at(1, 0.5), at(300, 0.1), at(300, 7, 'eval/topk/loss')], 0);
    expect(shown()).toEqual({
      loss: [
        [1, 0.5],
        [300, Math.fround(0.1)],
      ],
      'eval/topk/loss': [[300, 7]],
    });
    expect(readFileSync(path).subarray(0, first.length)).toEqual(first);
    const second = readFileSync(path);
    writeEvents(path, [at(1, 0.5), at(300, 0.1), at(300, 7, 'eval/topk/loss')], 0);
    expect(readFileSync(path)).toEqual(second); // nothing is new
    appendFileSync(path, second.subarray(first.length, first.length + 20)); // the writer was killed
    writeEvents(path, [at(1, 0.5), at(300, 0.2), at(300, 7, 'eval/topk/loss'), at(400, 0)], 0);
    expect(shown()).toEqual({
      loss: [
        [1, 0.5],
        [300, Math.fround(0.2)],
        [400, 0],
      ],
      'eval/topk/loss': [[300, 7]],
    });
    expect(readFileSync(path).subarray(0, second.length)).toEqual(second);
    writeEvents(path, [at(1, 0.5), at(200, 3), at(300, 0.2), at(400, 0)], 0); // a gap is filled
    expect(shown()).toMatchObject({
      loss: [
        [1, 0.5],
        [200, 3],
        [300, Math.fround(0.2)],
        [400, 0],
      ],
    });
    expect(statSync(path).ino).toBe(ino);
    for (const damaged of [Buffer.from('text'), Buffer.concat([first.subarray(0, 30), Buffer.alloc(40)])]) {
      writeFileSync(path, damaged);
      writeEvents(path, [at(1, 0.5)], 0);
      expect(readFileSync(path)).toEqual(first);
    }
  });

  it.skipIf(!hasPython('tensorboard'))('that grows is read on by a TensorBoard which has it open', () => {
    const folder = mkdtempSync(join(results, 'grown-'));
    const at = (step: number, value: number) => ({ tag: 'loss', step, value, wallTime: step });
    const stages = [[at(1, 4)], [at(1, 4), at(2, 3), at(3, 2)], [at(1, 4), at(2, 1), at(3, 2)]];
    const path = join(results, 'stages');
    let before = 0;
    const parts = stages.map((scalars) => {
      writeEvents(path, scalars, 0);
      const part = readFileSync(path).subarray(before).toString('hex');
      before = statSync(path).size;
      return part;
    });
    const shown = python(`
import json
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
shown = []
events = EventAccumulator(${JSON.stringify(folder)}, size_guidance={'scalars': 0})
for part in ${JSON.stringify(parts)}:
    with open(${JSON.stringify(join(folder, 'events.out.tfevents.0000000000.mod'))}, 'ab') as file: file.write(bytes.fromhex(part))
    shown.append([[e.step, e.value] for e in events.Reload().Scalars('loss')])
print(json.dumps(shown))`);
    expect(shown).toEqual(stages.map((scalars) => scalars.map(({ step, value }) => [step, value])));
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

it.each(['tensorboard', 'wandb'] as const)(
  '%s: runs that are no longer planned are removed, with a note; other folders stay',
  async (format) => {
    const runs = syntheticRuns({ file: 'flop_budgets: [1e15]\ncapacities: [0.125]\n' }).slice(6, 9);
    const own = mkdtempSync(join(results, 'own-'));
    const shared = join(own, 'shared');
    const [kept, dropped] = [runs.slice(1), runs[0]?.row.run_id as string];
    const run = async (out?: string) => {
      const printed: string[] = [];
      await exportCommand('made', { format, results: own, ...(out === undefined ? {} : { out }) }, (text) =>
        printed.push(text),
      );
      return printed;
    };
    writeSweep(own, runs);
    const folder = join(own, 'made', 'export', format);
    for (const out of [undefined, shared]) expect(await run(out)).toHaveLength(1);
    for (const at of [folder, shared]) {
      mkdirSync(join(at, 'theirs'));
      writeFileSync(join(at, 'theirs', 'events.out.tfevents.1.theirs'), '');
    }
    writeSweep(own, kept);
    for (const [at, out] of [
      [folder, undefined],
      [shared, shared],
    ] as const) {
      expect(await run(out)).toEqual([
        `${at}: 2 runs`,
        `removed 1 run, which is no longer planned: ${dropped}`,
      ]);
      const left = readdirSync(at).filter((name) => !name.startsWith('.'));
      expect(left.sort()).toEqual([...kept.map(({ row }) => row.run_id), 'theirs'].sort());
      expect(await run(out)).toHaveLength(1);
    }
  },
);

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
