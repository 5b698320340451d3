/** `mod status`: progress of runs, from files that the test writes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type StatusCommandOptions, statusCommand } from '../../src/commands/status.js';
import type { Output } from '../../src/commands/terminal.js';
import { makeResultsFolder } from '../../src/files/atomic.js';
import { acquireLock } from '../../src/files/lock.js';
import { planRow, runFiles, writeManifest, writeResult } from '../../src/results/run-folder.js';
import { appendStep } from '../../src/results/steps.js';
import { runFolder, sweepFiles, writePlan } from '../../src/results/sweep-folder.js';
import { manifestOf, plannedRun } from '../results/planned-run.js';

let results: string;
let sweep: string;
beforeEach(() => {
  results = mkdtempSync(join(tmpdir(), 'mod-status-'));
  sweep = join(results, 'a');
  makeResultsFolder(sweep);
});
afterEach(() => rmSync(results, { recursive: true }));

function started(id: string, step: number | null, loss = 2.5): string {
  const folder = runFolder(sweep, id);
  makeResultsFolder(folder);
  writeManifest(folder, manifestOf(plannedRun(id)));
  const unused = { heldout_loss: null, learning_rate: 1, grad_norm: 1, predictor_accuracy: null };
  const noExperts = { expert_load: null, expert_dropped: null, expert_no_op: null };
  const rest = { tokens: 0, ...unused, ...noExperts };
  if (step !== null) appendStep(runFiles(folder).steps, { step, loss, step_ms: 500, ...rest });
  return folder;
}

interface StatusTest extends Partial<StatusCommandOptions> {
  target?: string;
  /** Columns, lines and colours of the terminal; none: the output is a pipe. */
  terminal?: { columns: number; rows: number; colours: boolean };
}

async function status({ target = 'a', terminal, ...flags }: StatusTest = {}): Promise<string> {
  const printed: string[] = [];
  const out: Output = { write: (text: string) => printed.push(text) > 0, isTTY: terminal !== undefined };
  if (terminal !== undefined) {
    const { columns, rows, colours } = terminal;
    Object.assign(out, { columns, rows, hasColors: () => colours });
  }
  const off = { json: false, watch: false, all: false, orphans: false, failed: false, running: false };
  await statusCommand(target, { results, filter: '', ...off, ...flags }, out);
  return printed.join('');
}

it('prints share, loss, rate and time left of runs in every state', async () => {
  // 100 steps of 8 · 128 tokens each; all five runs cost the same.
  const runs = ['done', 'trains', 'broken', 'waits'].map((id) => plannedRun(id));
  const skipped = plannedRun('never', { status: 'skipped', note: 'selects none' });
  writePlan(sweep, { name: 'a', base_dir: '/', runs: [...runs, skipped] });
  const done = { ...planRow(plannedRun('done')), status: 'done' as const, loss: 1.25, tokens_per_s: 4096 };
  writeResult(started('done', null), done);
  const lock = acquireLock(runFiles(started('trains', 60)).lock, 'test');
  started('broken', 20);
  expect(await status()).toMatchInlineSnapshot(`
    "a: 45% of the FLOPs done, 1m50s left
    1 interrupted, 1 running, 1 pending, 1 done, 1 skipped

    run     status       step   of  done  held-out  training  tok/s  left
    done    done          100  100  100%    1.2500         -   4.1k     -
    trains  running        60  100   60%         -    2.5000  2.05k   20s
    broken  interrupted    20  100   20%         -    2.5000  2.05k     -
    waits   pending         0  100    0%         -         -      -     -
    never   skipped         0  100    0%         -         -      -     -

    never: selects none
    "
  `);
  const { runs: rows, share, seconds_left } = JSON.parse(await status({ json: true }));
  expect(rows.map(({ share }: { share: number }) => share)).toEqual([1, 0.6, 0.2, 0, 0]);
  expect(share).toBeCloseTo(1.8 / 4, 12);
  // 40 steps of half a second are 0.4 of a run; 2.2 runs are left.
  expect(seconds_left).toBeCloseTo((2.2 / 0.4) * 20, 9);
  lock.release();
});

it('watches until no run trains', async () => {
  writePlan(sweep, { name: 'a', base_dir: '/', runs: [plannedRun('trains')] });
  const lock = acquireLock(runFiles(started('trains', 99)).lock, 'test');
  setTimeout(() => lock.release(), 100);
  const text = await status({ watch: true });
  expect(text.match(/a: 99% of the FLOPs/g)).toHaveLength(2);
  expect(text).toContain('trains  interrupted');
});

it('continues to watch while the sweep is running, before its first run and between two', async () => {
  writePlan(sweep, { name: 'a', base_dir: '/', runs: [plannedRun('first'), plannedRun('second')] });
  writeResult(started('first', null), { ...planRow(plannedRun('first')), status: 'done', loss: 1 });
  const lock = acquireLock(sweepFiles(sweep).lock, 'test');
  setTimeout(() => lock.release(), 100);
  const text = await status({ watch: true });
  expect(text.match(/a: 50% of the FLOPs/g)).toHaveLength(2);
});

it('watches a single run only until it is done, even if the sweep is running', async () => {
  writePlan(sweep, { name: 'a', base_dir: '/', runs: [plannedRun('first'), plannedRun('second')] });
  writeResult(started('first', null), { ...planRow(plannedRun('first')), status: 'done', loss: 1 });
  const lock = acquireLock(sweepFiles(sweep).lock, 'test');
  const text = await status({ watch: true, target: 'a/first' });
  expect(text.match(/a: 100% of the FLOPs/g)).toHaveLength(1);
  lock.release();
});

const UNCOLOURED = { columns: 80, rows: 24, colours: false };

/** A sweep of many runs: done but for a diverged, a failed and a waiting one. */
function manyRuns(count: number): void {
  const runs = Array.from({ length: count }, (_, i) =>
    plannedRun(`3e16-mod-c0.125-f2-d256l12-s${i}-learning_rate-4e-3-batch_sequences-64`, {
      spec: { ...plannedRun('').spec, flop_budget: i % 2 === 0 ? 3e16 : 1e16 },
    }),
  );
  writePlan(sweep, { name: 'a', base_dir: '/', runs });
  runs.slice(1).forEach((run, i) => {
    const ended = { status: 'done' as const, loss: 2 - i / count, train_loss: 1.5 };
    const other = [
      { status: 'diverged' as const, loss: null, note: 'loss NaN' },
      { status: 'failed' as const, note: null },
    ][i];
    const folder = started(run.run_id, i === 0 ? 1 : null, 1528159272960);
    writeResult(folder, { ...planRow(run), ...ended, ...other });
  });
}

it('fits the terminal: failed runs first, the rest as counts, no line longer than the screen', async () => {
  manyRuns(60);
  for (const [columns, rows] of [
    [80, 24],
    [60, 16],
    [70, 50],
  ] as const) {
    const lines = (await status({ terminal: { columns, rows, colours: false } })).split('\n');
    expect(lines.length).toBeLessThanOrEqual(rows);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(columns);
    const [first, second] = lines.filter((line) => / (failed +0|diverged +1)%/.test(line));
    expect(first).toContain('failed');
    expect(second).toMatch(/diverged +1% +- +1.5e\+12/);
  }
  const text = await status({ terminal: UNCOLOURED });
  expect(text).toContain('1 failed, 1 diverged, 1 pending, 57 done');
  expect(text).toMatch(/and \d+ more: \d+ done \(--all, --filter TEXT\)/);
  expect(text).toMatch(/MoD 12.5%, f 2 +3e16 +30 +28 +0 +1 +1.0500/);
  expect((await status({ terminal: UNCOLOURED, all: true })).split('\n').length).toBeGreaterThan(60);
  expect((await status()).split('\n').filter((line) => /^3e16-mod\S+(?<!:) /.test(line))).toHaveLength(60);
});

it('lists the runs of a selection in the order asked for', async () => {
  manyRuns(6);
  const listed = async (flags: StatusTest) =>
    [...(await status(flags)).matchAll(/^3e16-mod\S+-s(\d)\S*(?<!:) /gm)].map(([, seed]) => Number(seed));
  expect(await listed({ failed: true })).toEqual([1, 2]);
  expect(await listed({ running: true })).toEqual([]);
  expect(await listed({ filter: '-s3' })).toEqual([3]);
  expect(await listed({ sort: 'loss' })).toEqual([5, 4, 3, 0, 1, 2]);
  expect(await listed({ sort: 'budget' })).toEqual([1, 3, 5, 0, 2, 4]);
  const { runs } = JSON.parse(await status({ failed: true, json: true }));
  expect(runs.map(({ status: is }: { status: string }) => is)).toEqual(['diverged', 'failed']);
});

it('is redrawn in place on a terminal, with colours unless they are off', async () => {
  writePlan(sweep, { name: 'a', base_dir: '/', runs: [plannedRun('trains')] });
  const text = await status({ watch: true, terminal: { ...UNCOLOURED, colours: true } });
  expect(text.startsWith('\u001B[H')).toBe(true);
  expect(text).toContain('\u001B[2mpending\u001B[22m');
  const plain = await status({ watch: true, terminal: UNCOLOURED });
  expect(plain).not.toContain('\u001B[2m');
});

it('mentions and lists the runs that the sweep file no longer contains', async () => {
  const gone = plannedRun('gone');
  writeResult(started('gone', 10), { ...planRow(gone), status: 'done', loss: 1.25 });
  started('begun', 10);
  makeResultsFolder(join(sweep, 'report'));
  writePlan(sweep, { name: 'a', base_dir: '/', runs: [plannedRun('first')] });
  expect(await status()).toContain(
    'Not shown, since the sweep file no longer contains them: 2 (mod status --orphans)\n',
  );
  const text = await status({ orphans: true });
  expect(text).toMatch(/^begun +interrupted +- /m);
  expect(text).toMatch(/^gone +done +1.2500 +2026-01-01T00:00:00.000Z +0 B$/m);
  expect(JSON.parse(await status({ orphans: true, json: true }))).toMatchObject([
    { run_id: 'begun', status: 'interrupted' },
    { run_id: 'gone', status: 'done', loss: 1.25, checkpoint_bytes: 0 },
  ]);
  writePlan(sweep, {
    name: 'a',
    base_dir: '/',
    runs: ['first', 'gone', 'begun'].map((id) => plannedRun(id)),
  });
  expect(await status({ orphans: true })).toBe('a: every run folder is in the plan\n');
});
