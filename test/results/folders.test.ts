/** Run and sweep folders: tables from plan and folders, lookup of targets, configs that must not change. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkpointFolder } from '../../src/checkpoint/folder.js';
import { InputError } from '../../src/errors.js';
import { makeResultsFolder } from '../../src/files/atomic.js';
import { readCsv } from '../../src/files/csv.js';
import { acquireLock } from '../../src/files/lock.js';
import { EVAL_TABLE, type EvalRow, RUN_COLUMNS, RUN_TABLE, type RunRow } from '../../src/results/columns.js';
import { gitCommit, versions } from '../../src/results/provenance.js';
import { recordedFiles } from '../../src/results/recorded-files.js';
import {
  assertSameConfig,
  assertSameHeldout,
  planRow,
  runFiles,
  writeEvaluations,
  writeManifest,
  writeResult,
} from '../../src/results/run-folder.js';
import { findSweep, readPlan, runFolder, sweepFiles, writePlan } from '../../src/results/sweep-folder.js';
import { refreshTables, writeTables } from '../../src/results/tables.js';
import { evalRow, manifestOf, plannedRun } from './planned-run.js';

let results: string;
let sweep: string;
beforeEach(() => {
  results = mkdtempSync(join(tmpdir(), 'mod-folders-'));
  sweep = join(results, '6e18');
  makeResultsFolder(sweep);
});
afterEach(() => rmSync(results, { recursive: true }));

function started(id: string): string {
  const folder = runFolder(sweep, id);
  makeResultsFolder(folder);
  writeManifest(folder, manifestOf(plannedRun(id)));
  return folder;
}

function ended(id: string, status: RunRow['status'], loss: number | null): string {
  const folder = started(id);
  writeResult(folder, { ...planRow(plannedRun(id)), status, loss });
  return folder;
}

describe('runs.csv', () => {
  it('has a row for each planned run, in the order of the plan, from the run folders', () => {
    ended('done', 'done', 1.25);
    ended('failed', 'failed', null);
    started('broken');
    const trainingAgain = ended('again', 'failed', null);
    const lock = acquireLock(runFiles(trainingAgain).lock, 'test');
    const skipped = plannedRun('skipped', { status: 'skipped', note: 'k is 0' });
    const ids = ['pending', 'again', 'done', 'broken', 'failed'];
    const runs = [skipped, ...ids.map((id) => plannedRun(id))];
    writeTables(sweep, runs);
    const rows = readCsv<RunRow>(sweepFiles(sweep).runs, RUN_TABLE);
    expect(rows.map(({ run_id, status, loss }) => [run_id, status, loss])).toEqual([
      ['skipped', 'skipped', null],
      ['pending', 'pending', null],
      ['again', 'running', null],
      ['done', 'done', 1.25],
      ['broken', 'interrupted', null],
      ['failed', 'failed', null],
    ]);
    expect(rows[0]?.note).toBe('k is 0');
    expect(rows[1]).toEqual(planRow(plannedRun('pending')));
    expect(rows[2]).toMatchObject({ backend: 'wasm', precision: 'fp32', device: 'a processor' });
    lock.release();
    writeTables(sweep, runs);
    expect(readCsv<RunRow>(sweepFiles(sweep).runs, RUN_TABLE)[2]?.status).toBe('failed');
  });

  it('has the planned values before training, and null for the others', () => {
    const row = planRow(plannedRun('a'));
    expect(row).toMatchObject({ capacity: 0.125, routing_frequency: 2, router: 'learned', gate: 'raw' });
    expect(row).toMatchObject({
      flops_per_pass_vs_dense: 0.75,
      train_flops: 6e18,
      loss: null,
      backend: null,
    });
    expect(Object.keys(row)).toEqual([...RUN_COLUMNS]);
    const { spec } = plannedRun('a');
    const dense = plannedRun('b', { spec: { ...spec, model: { ...spec.model, routing: null } } });
    expect(planRow(dense)).toMatchObject({
      capacity: null,
      routing_frequency: null,
      router: null,
      gate: null,
    });
  });

  it('rejects a result that is not JSON, and names the file', () => {
    const folder = started('a');
    writeFileSync(runFiles(folder).result, '{"run_id":');
    expect(() => writeTables(sweep, [plannedRun('a')])).toThrow(InputError);
    expect(() => writeTables(sweep, [plannedRun('a')])).toThrow(runFiles(folder).result);
  });
});

describe('tables refreshed by a reader', () => {
  it('are written, and not rewritten if nothing has changed', () => {
    ended('a', 'done', 1);
    refreshTables(sweep, [plannedRun('a')]);
    const { runs } = sweepFiles(sweep);
    expect(readCsv<RunRow>(runs, RUN_TABLE)[0]).toMatchObject({ status: 'done', loss: 1 });
    utimesSync(runs, 1e9, 1e9);
    refreshTables(sweep, [plannedRun('a')]);
    expect(statSync(runs).mtimeMs).toBe(1e12);
    ended('b', 'failed', null);
    refreshTables(sweep, [plannedRun('a'), plannedRun('b')]);
    expect(readCsv<RunRow>(runs, RUN_TABLE).map(({ status }) => status)).toEqual(['done', 'failed']);
  });

  it('keep the rows of runs whose folders are missing', () => {
    ended('a', 'done', 1);
    const manifest = manifestOf(plannedRun('a'));
    const row = { ...planRow(plannedRun('a')), status: 'done' as const, started_at: manifest.started_at };
    writeResult(runFolder(sweep, 'a'), row);
    writeTables(sweep, [plannedRun('a')]);
    rmSync(runFolder(sweep, 'a'), { recursive: true });
    refreshTables(sweep, [plannedRun('a')]);
    expect(readCsv<RunRow>(sweepFiles(sweep).runs, RUN_TABLE)[0]?.status).toBe('done');
  });

  it('wait for another writer, which may have read older results', async () => {
    ended('a', 'done', 1);
    const lock = acquireLock(sweepFiles(sweep).tablesLock, 'another');
    const reader = new Worker(
      `const { workerData: [module, folder, runs] } = require('node:worker_threads');
       import(module).then(({ writeTables }) => writeTables(folder, runs));`,
      {
        eval: true,
        workerData: [new URL('../../dist/results/tables.js', import.meta.url).href, sweep, [plannedRun('a')]],
      },
    );
    const end = once(reader, 'exit');
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(existsSync(sweepFiles(sweep).runs)).toBe(false);
    lock.release();
    await end;
    expect(readCsv<RunRow>(sweepFiles(sweep).runs, RUN_TABLE)[0]?.status).toBe('done');
  });
});

it('eval.csv has the rows of every evaluated run, in the order of the plan', () => {
  for (const id of ['b', 'a']) {
    writeEvaluations(ended(id, 'done', 1), [evalRow(id, 'topk', 1), evalRow(id, 'predictor', 2)]);
  }
  writeTables(
    sweep,
    ['a', 'none', 'b'].map((id) => plannedRun(id)),
  );
  const rows = readCsv<EvalRow>(sweepFiles(sweep).evaluations, EVAL_TABLE);
  expect(rows.map(({ run_id, routing }) => `${run_id} ${routing}`)).toEqual([
    'a topk',
    'a predictor',
    'b topk',
    'b predictor',
  ]);
  expect(rows[0]).toEqual(evalRow('a', 'topk', 1));
});

it('checkpoint names sort by step', () => {
  expect(checkpointFolder('run', 1200)).toBe(join('run', 'checkpoints', 'step-00001200'));
});

describe('assertSameConfig', () => {
  const changed = () => {
    const run = plannedRun('a');
    const training = { ...run.spec.training, learning_rate: 0.002 };
    const data = { text: ['c/*.txt'], heldout_text: ['b/*.txt'], tokenizer: 'bytes', vocab_size: 256 };
    return { ...run, spec: { ...run.spec, training, data } };
  };

  it('names the keys in which a finished run differs', () => {
    const folder = ended('a', 'done', 1);
    expect(() => assertSameConfig(folder, plannedRun('a'))).not.toThrow();
    expect(() => assertSameConfig(folder, changed())).toThrow(InputError);
    expect(() => assertSameConfig(folder, changed())).toThrow(
      'data.text: ["a/*.txt"] → ["c/*.txt"], training.learning_rate: 0.001 → 0.002',
    );
  });

  it('detects added and removed keys, including those of routing', () => {
    const folder = ended('a', 'diverged', null);
    const { spec } = plannedRun('a');
    const dense = plannedRun('a', { spec: { ...spec, model: { ...spec.model, routing: null } } });
    expect(() => assertSameConfig(folder, dense)).toThrow('model.routing.frequency: 2 → absent');
  });

  it('names the data files that differ, also for an interrupted run', () => {
    const file = (bytes: number, hash = 'aa') => ({ bytes, hash });
    const files = {
      train: { 'a/1.txt': file(10), 'a/2.txt': file(20) },
      heldout: { 'b/1.txt': file(30) },
    };
    const { data_files, data_hashes } = recordedFiles(files);
    const run = plannedRun('a');
    for (const folder of [ended('a', 'done', 1), ended('b', 'diverged', null), started('c')]) {
      expect(() => assertSameConfig(folder, run, files)).not.toThrow(); // an older manifest has none
      writeManifest(folder, { ...manifestOf(run), data_files }); // a manifest without hashes
      expect(() => assertSameConfig(folder, run, { heldout: { 'b/1.txt': file(30, 'bb') } })).not.toThrow();
      writeManifest(folder, { ...manifestOf(run), data_files, data_hashes });
      expect(() => assertSameConfig(folder, run, files)).not.toThrow();
      expect(() => assertSameConfig(folder, run, {})).not.toThrow(); // no files here
      const train = { 'a/1.txt': file(11, 'bb'), 'a/3.txt': file(20) };
      const heldout = { 'b/1.txt': file(31) };
      const replaced = { 'b/1.txt': file(30, 'bb') };
      expect(() => assertSameConfig(folder, run, { train })).toThrow(
        'other data: train file a/1.txt: 10 bytes → 11 bytes, train file a/2.txt: 20 bytes → absent, train file a/3.txt: absent → 20 bytes. Give',
      );
      expect(() => assertSameConfig(folder, run, { heldout })).toThrow('heldout file b/1.txt: 30 bytes');
      const text = 'heldout file b/1.txt: other content (30 bytes, hash aa → bb)';
      expect(() => assertSameConfig(folder, run, { heldout: replaced })).toThrow(text);
      expect(() => assertSameHeldout(folder, { heldout: replaced })).toThrow(text);
    }
    const many = Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`a/${i}.txt`, file(1)]));
    expect(() => assertSameConfig(runFolder(sweep, 'a'), run, { train: many })).toThrow('and 7 more. Give');
    expect(() => assertSameConfig(runFolder(sweep, 'c'), changed(), { train: many })).not.toThrow();
  });

  it('accepts a changed config of a diverged run with --retry, and suggests it', () => {
    const folder = ended('a', 'diverged', null);
    expect(() => assertSameConfig(folder, changed())).toThrow('or train it again with --retry');
    expect(() => assertSameConfig(folder, changed(), {}, true)).not.toThrow();
    expect(() => assertSameConfig(ended('b', 'done', 1), changed(), {}, true)).toThrow(InputError);
    expect(() => assertSameConfig(ended('c', 'out-of-memory', null), changed(), {}, true)).not.toThrow();
  });

  it('accepts a changed config of an unfinished run', () => {
    expect(() => assertSameConfig(started('a'), changed())).not.toThrow();
    expect(() => assertSameConfig(join(sweep, 'nowhere'), changed())).not.toThrow();
  });
});

describe('findSweep', () => {
  const plan = (folder: string, ...ids: string[]) => {
    mkdirSync(folder, { recursive: true });
    writePlan(folder, { name: 'x', base_dir: '/', runs: ids.map((id) => plannedRun(id)) });
  };

  it('finds a sweep, a run, their names in the results folder, or the newest sweep', () => {
    const other = join(results, 'other');
    plan(sweep, 'a');
    plan(other, 'b');
    utimesSync(sweepFiles(sweep).plan, 1e9, 1e9);
    const found = (sweepFolder: string, runId: string | null = null) => ({ sweepFolder, runId });
    writeFileSync(join(results, 'README.md'), 'no sweep');
    expect(findSweep(sweep, results)).toEqual(found(sweep));
    expect(findSweep(join(sweep, 'a'), results)).toEqual(found(sweep, 'a'));
    expect(findSweep('6e18', results)).toEqual(found(sweep));
    expect(findSweep('6e18/a/', results)).toEqual(found(sweep, 'a'));
    expect(findSweep(undefined, results)).toEqual(found(other));
    writeFileSync(sweepFiles(sweep).runs, ''); // the older plan has the newer table
    utimesSync(sweepFiles(sweep).runs, 4e9, 4e9);
    expect(findSweep(undefined, results)).toEqual(found(sweep));
  });

  it('names the folder it searched', () => {
    plan(sweep, 'a');
    expect(() => findSweep('6e18/b', results)).toThrow(InputError);
    expect(() => findSweep('nothing', results)).toThrow(results);
    expect(() => findSweep(undefined, join(results, 'none'))).toThrow(/contains no sweep/);
  });

  it('rejects ids outside the sweep, and folders without a plan', () => {
    for (const id of ['', '..', '../x', 'a/b', '.lock'])
      expect(() => runFolder(sweep, id)).toThrow(InputError);
    expect(() => readPlan(results)).toThrow(InputError);
    plan(sweep, 'a');
    expect(readPlan(sweep).runs).toEqual([plannedRun('a')]);
  });
});

describe('provenance', () => {
  it('has the commit of a repository’s root, and none for a folder inside', () => {
    const git = (...args: string[]) => execFileSync('git', ['-C', results, ...args], { encoding: 'utf8' });
    expect(gitCommit(results)).toBeNull();
    git('init', '--quiet');
    expect(gitCommit(results)).toBeNull();
    git('-c', 'user.name=a', '-c', 'user.email=a@b', 'commit', '--quiet', '--allow-empty', '-m', 'x');
    expect(gitCommit(results)).toBe(git('rev-parse', 'HEAD').trim());
    expect(gitCommit(sweep)).toBeNull();
    writeFileSync(join(sweep, 'package.json'), JSON.stringify({ gitHead: 'abc' }));
    expect(gitCommit(sweep)).toBe('abc');
    mkdirSync(join(sweep, 'dist'));
    writeFileSync(join(sweep, 'dist', 'commit.json'), JSON.stringify({ gitHead: 'def' }));
    expect(gitCommit(sweep)).toBe('def');
    expect(gitCommit(results)).toBe(git('rev-parse', 'HEAD').trim()); // the repository comes first
  });

  it('of a package without a repository has the commit that it was built from', () => {
    const git = (...args: string[]) => execFileSync('git', ['-C', sweep, ...args], { encoding: 'utf8' });
    for (const folder of ['scripts', 'dist']) mkdirSync(join(sweep, folder));
    cpSync('scripts/write-commit.mjs', join(sweep, 'scripts/write-commit.mjs'));
    const build = () => execFileSync(process.execPath, [join(sweep, 'scripts/write-commit.mjs')]);
    git('init', '--quiet');
    git('-c', 'user.name=a', '-c', 'user.email=a@b', 'commit', '--quiet', '--allow-empty', '-m', 'x');
    const commit = git('rev-parse', 'HEAD').trim();
    build();
    rmSync(join(sweep, '.git'), { recursive: true }); // as npm pack leaves it out
    expect(gitCommit(sweep)).toBe(commit);
    build(); // of a copy without a repository: its commit is unknown
    expect(gitCommit(sweep)).toBeNull();
  });

  it('has the versions of Node and packages, null if not installed', () => {
    const { version } = JSON.parse(readFileSync('node_modules/koffi/package.json', 'utf8'));
    expect(versions('koffi', 'no-such-package')).toMatchObject({
      node: process.versions.node,
      koffi: version,
      'no-such-package': null,
    });
  });
});
