/** `mod status`: progress of runs, from files that the test writes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { statusCommand } from '../../src/commands/status.js';
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

function started(id: string, step: number | null): string {
  const folder = runFolder(sweep, id);
  makeResultsFolder(folder);
  writeManifest(folder, manifestOf(plannedRun(id)));
  const unused = { heldout_loss: null, learning_rate: 1, grad_norm: 1, predictor_accuracy: null };
  const noExperts = { expert_load: null, expert_dropped: null, expert_no_op: null };
  const rest = { tokens: 0, ...unused, ...noExperts };
  if (step !== null) appendStep(runFiles(folder).steps, { step, loss: 2.5, step_ms: 500, ...rest });
  return folder;
}

async function status(options: { json?: boolean; watch?: boolean; target?: string } = {}): Promise<string> {
  const printed: string[] = [];
  const out = { write: (text: string) => printed.push(text) > 0, isTTY: false } as NodeJS.WriteStream;
  const { target = 'a', ...flags } = options;
  await statusCommand(target, { results, json: false, watch: false, ...flags }, out);
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

    run     status       step   of  done    loss  tok/s  left
    done    done          100  100  100%  1.2500   4.1k     -
    trains  running        60  100   60%  2.5000  2.05k   20s
    broken  interrupted    20  100   20%  2.5000  2.05k     -
    waits   pending         0  100    0%       -      -     -
    never   skipped         0  100    0%       -      -     -

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
