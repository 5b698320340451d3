/** `mod plan`: the table, infeasible points, warnings, and the rows of --json. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import type { BenchRecord } from '../../src/bench/record.js';
import { planCommand } from '../../src/commands/plan.js';
import type { OpenTokens } from '../../src/commands/plan-data.js';
import { loadSweepFile } from '../../src/config/sweep-file.js';
import { InputError } from '../../src/errors.js';
import { makeResultsFolder } from '../../src/files/atomic.js';
import { expandSweep } from '../../src/plan/expand.js';
import type { PlannedRun } from '../../src/plan/run.js';
import { RUN_COLUMNS } from '../../src/results/columns.js';
import { planRow, writeManifest, writeResult } from '../../src/results/run-folder.js';
import { manifestOf } from '../results/planned-run.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-plan-'));
afterAll(() => rmSync(folder, { recursive: true }));

const SWEEP = `name: a
flop_budgets: [1e11]
data: {text: a, heldout_text: b}
sequence_length: 64
batch_sequences: 4
evaluation: {sequences: 64}
capacities: [0.125, 0.001]
model_sizes: [{d_model: 64, n_layers: 4}]
`;

const tokens =
  (count: number): OpenTokens =>
  () => ({ tokens: count, files: [], read: () => undefined, close: () => undefined });

async function planned(
  text: string,
  json: boolean,
  open: OpenTokens,
  measured: BenchRecord[] = [],
  columns = Number.POSITIVE_INFINITY,
): Promise<string> {
  const path = join(folder, 's.yaml');
  writeFileSync(path, text);
  const printed: string[] = [];
  const out = (part: string) => printed.push(part);
  await planCommand(path, { json, results: folder }, out, open, measured, columns);
  return printed.join('\n');
}

it('prints a table of the runs, then the infeasible ones', async () => {
  const text = await planned(SWEEP, false, tokens(1e6));
  expect(text.split('\n').slice(0, 5).join('\n')).toMatchInlineSnapshot(`
    "a: 2 of 3 runs can be trained

    run                          params  steps  tokens  FLOPs/pass  vs dense  train FLOPs  of budget  epochs  checkpoint  time
    1e11-baseline-d64l4-s0         214k    264   67.6k    3.151e+7     1.000    9.981e+10     -0.19%   0.068    2.51 MiB     -
    1e11-mod-c0.125-f2-d64l4-s0    222k    428    110k    1.949e+7     0.619    1.001e+11     +0.10%    0.11     2.6 MiB     -"
  `);
  expect(text).toContain(
    'Not feasible:\n  1e11-mod-c0.001-f2-d64l4-s0: capacity 0.001 of 64 tokens selects none',
  );
  expect(text).not.toContain('Warnings');
});

it('prints the disk space of the sweep, and its hours if mod bench has measured a rate', async () => {
  const record: BenchRecord = {
    host: hostname(),
    backend: 'wasm',
    device: 'a CPU',
    precision: 'fp32',
    shape: 'd64l4t64b4v256',
    d_model: 64,
    routed: false,
    flops_per_second: 1e9,
    measured_at: '2026-01-01T00:00:00.000Z',
  };
  // 2 x 1e11 FLOPs at 1e9 FLOP/s. Three checkpoints of 12 bytes a parameter for the larger run, 4 for each of 436k parameters.
  const text = await planned(SWEEP, false, tokens(1e6), [record]);
  expect(text).toContain(
    'Total: 2.00e+11 FLOPs; 9.6 MiB of disk space for checkpoints with one run at a time, 1.79 MiB of it for weights that stay; about 3m20s of training, one run at a time, at the rate of d64l4t64b4v256.',
  );
  const [baseline, , skipped] = JSON.parse(await planned(SWEEP, true, tokens(1e6), [record]));
  expect(baseline.hours_from).toBe(record.shape);
  expect(baseline.hours).toBeCloseTo(baseline.train_flops / 1e9 / 3600, 12);
  expect(baseline.checkpoint_bytes).toBe(12 * baseline.params_total + 65536);
  expect(skipped).toMatchObject({ hours: null, hours_from: null, checkpoint_bytes: null });
  expect(await planned(SWEEP, false, tokens(1e6))).toContain(
    'hours unknown for 2 runs: run mod bench --shape d64l4t64b4v256 on this machine.',
  );
  expect(await planned(`${SWEEP}backend: cuda\n`, false, tokens(1e6), [record])).toContain(
    'on this machine, which has measured no width within a factor of ten with this backend and precision.',
  );
});

it('takes hours from finished runs of the sweep, says what is done, changed and no longer planned', async () => {
  const path = join(folder, 's.yaml');
  writeFileSync(path, SWEEP.replace('[0.125, 0.001]', '[0.125]'));
  const [baseline, routed] = expandSweep(loadSweepFile(path)) as [PlannedRun, PlannedRun];
  const sweep = join(folder, 'a');
  const start = (run: PlannedRun) => {
    const runPath = join(sweep, run.run_id);
    makeResultsFolder(runPath);
    writeManifest(runPath, manifestOf(run));
    return runPath;
  };
  const done = {
    status: 'done' as const,
    loss: 1,
    step_ms: 100,
    backend: 'wasm' as const,
    precision: 'fp32' as const,
  };
  writeResult(start(baseline), { ...planRow(baseline), ...done });
  start({ ...baseline, run_id: 'gone' });
  const text = await planned(SWEEP, false, tokens(1e6));
  expect(text).toContain('a: 2 of 3 runs can be trained: 1 done, 1 pending\n');
  expect(text).toMatch(/^1e11-baseline-d64l4-s0 +done /m);
  expect(text).toContain('No longer in this file: their folders are kept and shown nowhere:\n  gone');
  const seconds = routed.train_flops / (baseline.train_flops / (baseline.spec.steps * 0.1));
  expect(text).toContain(
    `Left, 1 run: 1.00e+11 FLOPs; 8.72 MiB of disk space for checkpoints with one run at a time, 932 KiB of it for weights that stay; about ${Math.round(seconds)}s of training, one run at a time, at the rate of run ${baseline.run_id}.`,
  );
  const changed = await planned(
    SWEEP.replace('batch_sequences: 4', 'batch_sequences: 2'),
    false,
    tokens(1e6),
  );
  expect(changed).toMatch(/^1e11-baseline-d64l4-s0 +done, changed /m);
  expect(changed).toMatch(
    /Ended under another config: .*:\n {2}1e11-baseline-d64l4-s0: batch_sequences: 4 → 2, steps: 264 → 529\n/,
  );
  // A width of more than ten times that of the finished run.
  const wide = SWEEP.replace('d_model: 64', 'd_model: 1024')
    .replace('1e11', '1e14')
    .replace('name: a', 'name: b');
  const far = await planned(wide, false, tokens(1e9), [
    {
      host: hostname(),
      backend: 'wasm',
      device: 'a CPU',
      precision: 'fp32',
      shape: 'd64l4',
      d_model: 64,
      routed: false,
      flops_per_second: 1e9,
      measured_at: '',
    },
  ]);
  expect(far).toContain(
    'hours unknown for 2 runs: run mod bench --shape d1024l4t64b4v256 on this machine, which has measured no width within a factor of ten',
  );
  rmSync(sweep, { recursive: true });
});

it('fits 80 columns unless --wide', async () => {
  const text = await planned(SWEEP, false, tokens(1e6), [], 80);
  const lines = text.split('\n').filter((line) => /^(run|1e11)/.test(line));
  expect(lines).toHaveLength(3);
  for (const line of lines) expect(line.length).toBeLessThanOrEqual(80);
});

it('warns above four epochs, and if FLOPs differ from the budget by more than 1%', async () => {
  expect(await planned(SWEEP, false, tokens(20_000))).toContain(
    'Warnings:\n  more than 4 epochs over the training data in 1 run, up to 5.48 in 1e11-mod-c0.125-f2-d64l4-s0',
  );
  const few = SWEEP.replace('1e11', '5e9');
  expect(await planned(few, false, tokens(1e6))).toMatch(
    /FLOPs differ from the budget by more than 1% in \d runs?, up to \d\.\d\d% in/,
  );
});

it('warns of data shorter than one sequence, and abbreviates millions of epochs', async () => {
  const text = await planned(SWEEP, false, (_, role) => tokens(role === 'heldout' ? 64 : 65)(_, role, ''));
  expect(text).toContain(
    'the held-out data is too short, mod sweep rejects it: 64 tokens, at least 65 are required for a sequence of 64',
  );
  expect(text).not.toContain('the training data is too short');
  const large = SWEEP.replace('1e11', '1e14');
  expect(await planned(large, false, tokens(65))).toMatch(/up to \d\.\d+e\d+ in 1e14-mod/);
});

it('works without the data, and warns of what is missing', async () => {
  const open: OpenTokens = (_, role) => {
    throw new InputError(`no file matches '${role}'`);
  };
  const text = await planned(SWEEP, false, open);
  expect(text).toContain("no training data, epochs are unknown: no file matches 'train'");
  expect(text).toContain("no held-out data: no file matches 'heldout'");
  expect(JSON.parse(await planned(SWEEP, true, open))[0].epochs).toBeNull();
});

it('opens each data configuration once, closes it, and rethrows other errors', async () => {
  let opened = 0;
  let closed = 0;
  const counting: OpenTokens = () => {
    opened += 1;
    const close = () => {
      closed += 1;
    };
    return { tokens: 1, files: [], read: () => undefined, close };
  };
  await planned(SWEEP, true, counting);
  expect({ opened, closed }).toEqual({ opened: 2, closed: 2 }); // training and held-out
  const broken: OpenTokens = () => {
    throw new TypeError('a bug');
  };
  await expect(planned(SWEEP, true, broken)).rejects.toThrow(TypeError);
});

it('prints the rows of runs.csv before training with --json; columns that do not apply are null', async () => {
  const rows = JSON.parse(await planned(SWEEP, true, tokens(1e6)));
  expect(Object.keys(rows[0])).toEqual(expect.arrayContaining([...RUN_COLUMNS, 'epochs']));
  expect(rows[0]).toMatchObject({
    run_id: '1e11-baseline-d64l4-s0',
    seed: 0,
    d_ff: 256,
    loss: null,
    backend: null,
  });
  expect(rows[0]).toMatchObject({
    status: 'pending',
    capacity: null,
    router: null,
    flops_per_pass_vs_dense: 1,
  });
  expect(rows[1]).toMatchObject({
    capacity: 0.125,
    routing_frequency: 2,
    router: 'learned',
    gate: 'raw',
    note: null,
  });
  expect(rows[2]).toMatchObject({ status: 'skipped', note: 'capacity 0.001 of 64 tokens selects none' });
  for (const { train_flops, flop_budget, budget_error, flops_terms, flops_per_pass } of rows) {
    expect(budget_error).toBe((train_flops - flop_budget) / flop_budget);
    expect(flops_terms.total).toBe(flops_per_pass);
  }
});

it('the quick sweep has nine runs of at least 50 steps, each of less than one epoch', async () => {
  const printed: string[] = [];
  await planCommand('configs/quick.yaml', { json: true, results: 'results' }, (part) => printed.push(part));
  const rows: { variant: string; steps: number; epochs: number; train_flops: number }[] = JSON.parse(
    printed.join(),
  );
  expect(rows.map(({ variant }) => variant).sort()).toEqual(
    ['baseline', 'mod', 'random'].flatMap((variant) => [variant, variant, variant]),
  );
  for (const { steps, epochs } of rows) {
    expect(steps).toBeGreaterThanOrEqual(50);
    expect(epochs).toBeLessThan(1);
  }
  expect(rows.reduce((sum, { train_flops }) => sum + train_flops, 0)).toBeLessThan(1.05e12);
});

it('the held-out text of the quick sweep shares only its licence with the training text', () => {
  const [data] = expandSweep(loadSweepFile('configs/quick.yaml')).map(({ spec }) => spec.data);
  if (data === undefined || !('text' in data)) throw new Error('the quick sweep is text');
  const lines = (paths: string[]) =>
    paths.flatMap((path) =>
      readFileSync(join('configs', path), 'utf8')
        .split('\n')
        .map((line) => line.trim()),
    );
  const seen = new Set(lines(data.text));
  const long = lines(data.heldout_text).filter((line) => line.length >= 60 && !line.startsWith('*'));
  expect(long.length).toBeGreaterThan(500);
  expect(long.filter((line) => seen.has(line)).length / long.length).toBeLessThan(0.02);
});
