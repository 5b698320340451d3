/** heldout-losses.csv: read as written, thinned without moving means, paired between runs of other row counts. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import {
  aligned,
  differencesOf,
  type HeldoutLosses,
  heldoutLosses,
  lossesOf,
  readHeldoutLosses,
  withRows,
  writeHeldoutLosses,
} from '../../src/results/heldout-losses.js';
import { planRow, runFiles, writeResult } from '../../src/results/run-folder.js';
import { thinRun } from '../../src/results/thin.js';
import { clusteredMean } from '../../src/statistics.js';
import { plannedRun } from './planned-run.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mod-losses-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Documents whose sums are multiples of 0.01, as in the file. */
function table(documents: number, shift = 0): HeldoutLosses {
  const clusters = Array.from({ length: documents }, (_, i) => ({
    sum: ((i * 7919) % 1000) / 100 + shift,
    size: 1 + ((i * 31) % 97),
  }));
  const plus = clusters.map(({ sum, size }, i) => ({ sum: sum + 0.25 + (i % 3), size }));
  return heldoutLosses([
    { mode: 'topk', losses: { unit: 'documents', clusters } },
    { mode: 'predictor', losses: { unit: 'documents', clusters: plus } },
  ]);
}

it('is read as it was written, sums rounded to hundredths', () => {
  expect(readHeldoutLosses(folder)).toBeNull();
  const losses = table(100);
  writeHeldoutLosses(folder, losses);
  const read = readHeldoutLosses(folder);
  expect(read).toMatchObject({ unit: 'documents', counts: losses.counts, tokens: losses.tokens });
  for (const mode of ['topk', 'predictor'] as const) {
    read?.sums[mode]?.forEach((sum, i) => {
      expect(sum).toBeCloseTo(losses.sums[mode]?.[i] as number, 9);
    });
  }
  expect(read?.sums).not.toHaveProperty('threshold');
  const text = readFileSync(runFiles(folder).heldoutLosses, 'utf8');
  expect(text.slice(0, 38)).toBe('documents,tokens,topk,predictor\n1,1,0,');
  const sequences = heldoutLosses([
    { mode: 'topk', losses: { unit: 'sequences', clusters: [{ sum: 1.2345, size: 8 }] } },
  ]);
  writeHeldoutLosses(folder, sequences);
  expect(readHeldoutLosses(folder)).toEqual({ ...sequences, sums: { topk: [1.23] } });
});

it('of another kind is an error that names the file', () => {
  writeFileSync(runFiles(folder).heldoutLosses, 'documents,tokens,topk\n1,x,2\n');
  expect(() => readHeldoutLosses(folder)).toThrow(InputError);
  expect(() => readHeldoutLosses(folder)).toThrow('heldout-losses.csv:2: tokens');
});

it('has at most 4096 rows, 128 after mod thin, with the same totals', () => {
  const losses = table(5001);
  writeHeldoutLosses(folder, losses);
  const full = readHeldoutLosses(folder) as HeldoutLosses;
  expect(full.counts).toHaveLength(2501);
  writeResult(folder, { ...planRow(plannedRun('a')), status: 'done', step_ms_q1: 1, step_ms_q3: 1 });
  writeFileSync(runFiles(folder).steps, '');
  expect(thinRun(folder)).not.toBeNull();
  const thin = readHeldoutLosses(folder) as HeldoutLosses;
  expect(thin.counts.length).toBeLessThanOrEqual(128);
  expect(thin.counts.length).toBeGreaterThan(64);
  const total = (values: readonly number[] = []) => values.reduce((a, b) => a + b, 0);
  for (const { counts, tokens, sums } of [full, thin]) {
    expect(total(counts)).toBe(5001);
    expect(total(tokens)).toBe(total(losses.tokens));
    expect(total(sums.topk)).toBeCloseTo(total(losses.sums.topk), 1);
  }
  expect(readFileSync(runFiles(folder).heldoutLosses).length).toBeLessThan(4000);
  const before = readFileSync(runFiles(folder).heldoutLosses, 'utf8');
  thinRun(folder);
  expect(readFileSync(runFiles(folder).heldoutLosses, 'utf8')).toBe(before); // thinned once
});

it.each([
  [5000, 128, 40],
  [77, 77, 39],
  [3, 2, 1],
])(
  'rows of %d documents merge to at most %d, and these to at most %d as in one step',
  (documents, rows, fewer) => {
    const losses = table(documents);
    expect(withRows(losses, rows).counts.length).toBeLessThanOrEqual(rows);
    expect(withRows(withRows(losses, rows), fewer)).toEqual(withRows(losses, fewer));
  },
);

it('pairs two runs on the same tokens, thinned or not, and no others', () => {
  const [a, b] = [table(300, 2), table(300)];
  const paired = (x: HeldoutLosses, y: HeldoutLosses) =>
    clusteredMean(differencesOf(x, 'topk', y, 'topk') ?? []);
  const tokens = b.tokens.reduce((x, y) => x + y, 0);
  expect(paired(a, b).mean).toBeCloseTo((300 * 2) / tokens, 9);
  expect(paired(withRows(a, 50), b)).toEqual(paired(withRows(a, 50), withRows(b, 50)));
  // Pairing removes what the documents have in common.
  const unpaired = clusteredMean(lossesOf(a, 'topk') ?? []).standardError as number;
  expect(paired(a, b).standardError).toBeLessThan(unpaired / 2);
  expect(aligned(a, table(301))).toBeNull();
  expect(differencesOf(a, 'topk', table(299), 'topk')).toBeNull();
  expect(differencesOf(a, 'topk', b, 'threshold')).toBeNull();
  expect(lossesOf(a, 'threshold')).toBeNull();
  expect(aligned(a, { ...b, unit: 'sequences' })).toBeNull();
});
