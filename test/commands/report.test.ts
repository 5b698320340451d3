/** `mod report`: one or several sweeps, finished or running; its time limit. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { reportCommand } from '../../src/commands/report.js';
import { InputError } from '../../src/errors.js';
import { acquireLock } from '../../src/files/lock.js';
import { loadRuns } from '../../src/results/load.js';
import { runFiles, writeResult } from '../../src/results/run-folder.js';
import { readPlan, runFolder, sweepFiles, writePlan } from '../../src/results/sweep-folder.js';
import { syntheticRuns, writeSweep } from '../report/synthetic.js';
import { timed } from '../support/cpu.js';

let results: string;
beforeEach(() => {
  results = mkdtempSync(join(tmpdir(), 'mod-report-'));
});
afterEach(() => rmSync(results, { recursive: true }));

const FEW = 'flop_budgets: [1e15]\ncapacities: [0.125]\n';

async function report(targets: string[], options: { json?: boolean; watch?: boolean; out?: string } = {}) {
  const printed: string[] = [];
  await reportCommand(targets, { results, json: false, watch: false, ...options }, (text) =>
    printed.push(text),
  );
  return printed;
}

it('writes the report of one sweep to its folder, and prints the path', async () => {
  const sweep = writeSweep(results, syntheticRuns({ file: FEW }));
  expect(await report([])).toEqual([
    expect.stringMatching(
      /made\/report\/index\.html: 16 of 16 runs, \d+ figures\n18 claims of the paper: 10 hold, 8 are not tested\nThe page says .*\nNext: mod report --open shows/,
    ),
  ]);
  expect(existsSync(join(sweep, 'report', 'report.json'))).toBe(true);
});

it('writes the report of several sweeps to the results folder, with all budgets', async () => {
  writeSweep(results, syntheticRuns({ file: FEW }), 'a');
  writeSweep(results, syntheticRuns({ file: FEW.replace('1e15', '4e15') }), 'b');
  const [printed] = await report(['a', 'b'], { json: true });
  const { budgets, claims } = JSON.parse(printed as string);
  expect(budgets.map(({ flop_budget }: { flop_budget: number }) => flop_budget)).toEqual([1e15, 4e15]);
  const of = new Set(claims[0].numbers.map(({ flop_budget }: { flop_budget: number }) => flop_budget));
  expect([...of]).toEqual([1e15, 4e15]);
  expect(readFileSync(join(results, 'report', 'index.html'), 'utf8')).toContain('<h1>a, b: ');
});

it('writes a page for a sweep without a finished run', async () => {
  const runs = syntheticRuns({ file: FEW });
  writeSweep(
    results,
    runs.map((run) => ({ ...run, row: { ...run.row, status: 'pending' as const, loss: null } })),
  );
  expect(await report([])).toEqual([expect.stringContaining(': 0 of 16 runs, 0 figures')]);
});

it('lists the runs that the sweep file no longer contains, and counts none of them', async () => {
  const sweep = writeSweep(results, syntheticRuns({ file: FEW }));
  const { base_dir, name, runs } = readPlan(sweep);
  const [gone, ...kept] = runs;
  const id = gone?.run_id as string;
  expect((await report([])).join()).not.toContain('Not shown');
  writePlan(sweep, { name, base_dir, runs: kept });
  const [printed] = await report([]);
  expect(printed).toContain(': 15 of 15 runs');
  expect(printed).toContain(
    `\nNot shown, since the sweep file no longer contains them: 1 (${id}). Their folders are kept: mod status --orphans\n`,
  );
  const { runs: counts, left_out } = JSON.parse((await report([], { json: true }))[0] as string);
  expect(counts).toEqual({ planned: 15, done: 15 });
  const reason = 'no longer in the sweep file; its folder is kept';
  expect(left_out).toEqual([{ sweep: 'made', run_id: id, status: 'done', reason }]);
  expect(readFileSync(join(sweep, 'report', 'index.html'), 'utf8')).toContain(reason);
});

it('reads the tables if the run folders were not copied', () => {
  const runs = syntheticRuns({ file: FEW });
  const sweep = writeSweep(results, runs);
  const before = loadRuns([sweep]);
  for (const { row } of runs) rmSync(runFolder(sweep, row.run_id), { recursive: true });
  const after = loadRuns([sweep]);
  expect(after.map(({ row }) => row)).toEqual(before.map(({ row }) => row));
  expect(after.map(({ evaluations }) => evaluations)).toEqual(before.map(({ evaluations }) => evaluations));
});

it('watches: writes the report again when a run ends, until no run trains', async () => {
  const runs = syntheticRuns({ file: FEW });
  const sweep = writeSweep(results, runs.slice(0, 4));
  const last = runs[3] as (typeof runs)[number];
  const folder = runFolder(sweep, last.row.run_id);
  rmSync(runFiles(folder).result);
  const lock = acquireLock(runFiles(folder).lock, 'test');
  setTimeout(() => {
    writeResult(folder, last.row);
    lock.release();
  }, 200);
  const printed = await report([], { watch: true });
  expect(printed).toEqual([
    expect.stringContaining(': 3 of 4 runs'),
    expect.stringContaining(': 4 of 4 runs'),
  ]);
});

it('continues to watch while the sweep is running, between two runs', async () => {
  const runs = syntheticRuns({ file: FEW });
  const sweep = writeSweep(results, runs.slice(0, 4));
  const last = runs[3] as (typeof runs)[number];
  const folder = runFolder(sweep, last.row.run_id);
  rmSync(runFiles(folder).result);
  const lock = acquireLock(sweepFiles(sweep).lock, 'test');
  setTimeout(() => {
    writeResult(folder, last.row);
    lock.release();
  }, 200);
  expect(await report([], { watch: true })).toEqual([
    expect.stringContaining(': 3 of 4 runs'),
    expect.stringContaining(': 4 of 4 runs'),
  ]);
});

it('takes less than five seconds of processor time for hundreds of runs', async () => {
  const file =
    'flop_budgets: [1e15, 2e15, 4e15, 8e15]\ncapacities: [0.125, 0.5]\nrouting_frequencies: [1, 2]\nrouters: [learned, random]\n';
  const runs = syntheticRuns({ file });
  expect(runs.length).toBeGreaterThan(300);
  writeSweep(results, runs);
  const { seconds } = await timed(() => report([]));
  expect(seconds).toBeLessThan(5);
});

it('an unknown target is an input error', async () => {
  await expect(report(['nothing'])).rejects.toThrow(InputError);
});

it('names the option that chooses the output folder if it cannot be written', async () => {
  const sweep = writeSweep(results, syntheticRuns({ file: FEW }));
  await expect(report([], { out: join(sweep, 'runs.csv', 'page') })).rejects.toThrow(
    /; choose another --out$/,
  );
});
