/** The same run in several folders counts once. */
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { cautionsOf } from '../../src/report/cautions.js';
import { claimsOf } from '../../src/report/claims/all.js';
import { studyOf } from '../../src/report/study.js';
import { type LoadedRun, loadRuns } from '../../src/results/load.js';
import { syntheticRuns, writeSweep } from './synthetic.js';

const SIZES =
  'model_sizes: [{d_model: 64, n_layers: 4}, {d_model: 96, n_layers: 4}, {d_model: 128, n_layers: 4}, {d_model: 192, n_layers: 4}]\n';
const RUNS = syntheticRuns({ file: `flop_budgets: [1e15]\ncapacities: [0.125]\n${SIZES}` });

let results: string;
beforeAll(() => {
  results = mkdtempSync(join(tmpdir(), 'mod-distinct-'));
});
afterAll(() => rmSync(results, { recursive: true }));

const verdicts = (runs: readonly LoadedRun[]) =>
  claimsOf(studyOf(runs)).map(({ id, verdict, numbers }) => ({ id, verdict, numbers }));
const later = (run: LoadedRun, change: Partial<LoadedRun['row']>): LoadedRun => ({
  ...run,
  sweep: 'again',
  row: { ...run.row, finished_at: '2026-02-02T00:00:00.000Z', ...change },
});
const first = (run: LoadedRun): LoadedRun => ({
  ...run,
  row: { ...run.row, finished_at: '2026-01-01T00:00:00.000Z' },
});

it('a symbolic link and a copy of a sweep change no number, and are noted', () => {
  const sweep = writeSweep(results, RUNS);
  symlinkSync(sweep, join(results, 'link'));
  cpSync(sweep, join(results, 'copy'), { recursive: true });
  const once = loadRuns([sweep]);
  const thrice = loadRuns([sweep, join(results, 'link'), join(results, 'copy')]);
  expect(thrice).toHaveLength(3 * once.length);
  expect(verdicts(thrice)).toEqual(verdicts(once));
  const study = studyOf(thrice);
  expect(study.done).toHaveLength(once.length);
  expect(study.leftOut).toHaveLength(2 * once.length);
  expect(study.leftOut[0]?.reason).toBe(`the same run as made/${once[0]?.row.run_id}: it counts once`);
  expect(cautionsOf(study).join()).toContain(
    `${2 * once.length} runs of the folders are the same as another one`,
  );
});

it('of different results the first to finish counts, whatever the order of the sweeps', () => {
  const cuda = RUNS.map((run) => first({ ...run, row: { ...run.row, backend: 'cuda' } }));
  const again = cuda.map((run) => later(run, { loss: (run.row.loss as number) + 0.01 }));
  expect(verdicts([...again, ...cuda])).toEqual(verdicts(cuda));
  const { leftOut } = studyOf([...again, ...cuda]);
  expect(leftOut[0]?.reason).toMatch(/which finished first and counts: loss \d\.\d+ against \d\.\d+/);
});

it('a finished run counts instead of one that is only planned', () => {
  const planned = RUNS.map((run) => later(run, { status: 'pending', loss: null, finished_at: null }));
  expect(studyOf([...planned, ...RUNS]).done).toHaveLength(RUNS.length);
});

it('runs on data of different content are different runs', () => {
  const of = (data_hash: string) => RUNS.map((run) => ({ ...run, row: { ...run.row, data_hash } }));
  expect(studyOf([...of('a'), ...of('b')]).done).toHaveLength(2 * RUNS.length);
  expect(studyOf([...of('a'), ...RUNS]).done).toHaveLength(RUNS.length);
});

it('different losses of a deterministic run on one backend, device and version are an error', () => {
  const commit = (run: LoadedRun, git_commit: string | null) => ({ ...run, row: { ...run.row, git_commit } });
  const [run] = RUNS.map((one) => commit(first(one), 'abc')) as [LoadedRun];
  const changed = later(run, { loss: 1 });
  expect(() => studyOf([run, changed])).toThrow(InputError);
  for (const other of [
    commit(changed, 'def'),
    later(changed, { device: 'another' }),
    later(changed, { backend: 'cuda' }),
  ]) {
    expect(studyOf([run, other]).done).toHaveLength(1);
  }
});
