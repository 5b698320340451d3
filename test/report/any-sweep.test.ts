/** Reports of any part of a sweep in any state: complete sentences, finite numbers in figures. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { pageOf } from '../../src/report/page.js';
import { reportOf } from '../../src/report/report.js';
import type { RunRow } from '../../src/results/columns.js';
import type { LoadedRun } from '../../src/results/load.js';
import { syntheticRuns } from './synthetic.js';

const ALL = syntheticRuns({
  file: 'flop_budgets: [1e15, 4e15]\ncapacities: [0.125]\nrouters: [learned, random]\ngrids: [{}, {routing: {aux_loss_weight: 0.01}, baseline: false}]\n',
});

type Change = (run: LoadedRun) => LoadedRun;
const row =
  (change: Partial<RunRow>): Change =>
  (run) => ({ ...run, row: { ...run.row, ...change } });
const CHANGES: Change[] = [
  (run) => run,
  (run) => run,
  row({ status: 'running', loss: null }),
  row({ status: 'diverged', loss: null, note: 'loss is <NaN> at step 3 & later' }),
  row({ loss: Number.NaN }),
  row({ step_ms: null, peak_memory_bytes: null }),
  row({ device: null, backend: null }),
  (run) => ({ ...run, evaluations: [] }),
  (run) => ({ ...run, steps: () => [] }),
  (run) => ({ ...run, steps: () => run.steps().slice(0, 1) }),
  (run) => ({ ...run, analysis: null }),
];

it('has complete sentences and finite numbers in its figures', () => {
  const part = fc.array(fc.tuple(fc.nat(ALL.length - 1), fc.nat(CHANGES.length - 1)), { maxLength: 40 });
  fc.assert(
    fc.property(part, (picks) => {
      const runs = [...new Map(picks)].map(([i, change]) => (CHANGES[change] as Change)(ALL[i] as LoadedRun));
      const report = reportOf(runs);
      const { study, claims, figures } = report;
      expect(study.done.length + study.leftOut.length).toBe(runs.length);
      for (const { reading, notes = '', svg, table, id } of figures.drawn) {
        expect(`${reading} ${notes}`, id).not.toMatch(/NaN|undefined|Infinity|null/);
        expect(svg, id).not.toMatch(/NaN|undefined|Infinity/);
        for (const cells of table.rows) expect(cells.length, id).toBe(table.head.length);
      }
      for (const { id, finding, numbers, verdict } of claims) {
        expect(finding, id).not.toMatch(/NaN|undefined|Infinity|null/);
        if (verdict === 'not tested') expect(numbers, id).toEqual([]);
        for (const { value } of numbers) expect(Number.isFinite(value), id).toBe(true);
      }
      const about = {
        generatedAt: '2026-01-01T00:00:00.000Z',
        program: 'mod',
        folder: '/',
        reloadSeconds: null,
      };
      const page = pageOf({
        sweeps: ['a'],
        study,
        claims,
        figures,
        pending: [],
        scores: [],
        orphans: [],
        ...about,
      });
      expect(page.slice(0, page.indexOf('<script>'))).not.toMatch(/<NaN>|undefined/);
    }),
    { numRuns: 40, seed: 1 },
  );
});
