/** The estimates of `--whole-runs`: step times of finished runs of the shape, else FLOP/s of the most similar one. */
import { describe, expect, it } from 'vitest';
import type { PlannedRun } from '../../src/plan/run.js';
import type { RunRow } from '../../src/results/columns.js';
import { planRow } from '../../src/results/run-folder.js';
import { estimateRun, leftOutFor, leftOutText } from '../../src/sweep/whole-runs.js';
import { plannedRun } from '../results/planned-run.js';

const HERE = { name: 'wasm', precision: 'fp32', device: 'a processor' } as const;
const PROCESS = 10;

/** A finished run of 100 ms a step, with 7 s besides its steps. */
function finished(run: PlannedRun, changes: Partial<RunRow> = {}): RunRow {
  const row = {
    ...planRow(run),
    status: 'done',
    backend: 'wasm',
    precision: 'fp32',
    device: HERE.device,
  } as const;
  return {
    ...row,
    step_ms: 100,
    wall_s: 7 + 0.1 * row.steps,
    finished_at: '2026-01-01T00:00:00.000Z',
    ...changes,
  };
}

const run = plannedRun('a');
const { steps } = run.spec;

/** The run with another number of layers and twice the FLOPs. */
const deeper: PlannedRun = {
  ...plannedRun('deeper'),
  spec: { ...run.spec, model: { ...run.spec.model, n_layers: 2 * run.spec.model.n_layers } },
  flops_per_pass: 2 * run.flops_per_pass,
  train_flops: 3 * 2 * run.flops_per_pass * run.spec.batch_sequences * steps,
};

describe('the time of a run', () => {
  it('is that of its remaining steps at the median step time of its shape, and what such runs need besides', () => {
    const rows = [100, 300, 120].map((step_ms, i) =>
      finished(run, { run_id: `r${i}`, step_ms, wall_s: 7 + (steps * step_ms) / 1000 }),
    );
    const other = finished(deeper, { step_ms: 9000 });
    const failed = finished(run, { status: 'failed', step_ms: 1e6 });
    const estimate = estimateRun(run, [other, failed, ...rows], HERE, 0);
    expect(estimate).toMatchObject({ from: 'r0', isScaled: false });
    expect(estimate?.seconds).toBeCloseTo(PROCESS + 7 + 0.12 * steps, 9);
    const resumed = estimateRun(run, rows, HERE, steps - 10);
    expect(resumed?.seconds).toBeCloseTo(PROCESS + 7 + 1.2, 9);
  });

  it('is scaled by FLOPs for a shape that no run has finished', () => {
    const train_flops = 3 * run.flops_per_pass * run.spec.batch_sequences * steps;
    const estimate = estimateRun(deeper, [finished(run, { run_id: 'r', train_flops })], HERE, 0);
    expect(estimate).toMatchObject({ from: 'r', isScaled: true });
    expect(estimate?.seconds).toBeCloseTo(PROCESS + 2 * 7 + 2 * 0.1 * steps, 6);
  });

  it('is that of this device, if it has finished runs', () => {
    const elsewhere = finished(run, { run_id: 'elsewhere', device: 'another', step_ms: 1, wall_s: 0 });
    expect(estimateRun(run, [elsewhere], HERE, 0)?.from).toBe('elsewhere');
    expect(estimateRun(run, [elsewhere, finished(run)], HERE, 0)?.seconds).toBeCloseTo(
      PROCESS + 7 + 0.1 * steps,
      9,
    );
  });

  it.each<[string, RunRow[]]>([
    ['no run has finished', [planRow(run)]],
    ['all finished runs are on another backend', [finished(run, { backend: 'cuda' })]],
    ['all are of another precision', [finished(run, { precision: 'bf16' })]],
    ['all are more than ten times wider', [finished(run, { d_model: 11 * run.spec.model.d_model })]],
  ])('is unknown if %s, and such a run is started', (_, rows) => {
    expect(estimateRun(run, rows, HERE, 0)).toBeNull();
    expect(leftOutFor(run, null, 0)).toBeNull();
  });
});

describe('a run', () => {
  it('is left out if it needs more than is left, with the times and their source', () => {
    const estimate = { seconds: 61, from: 'r', isScaled: false };
    expect(leftOutFor(run, estimate, 61)).toBeNull();
    const end = leftOutFor(run, estimate, 60.9);
    expect(end).toEqual({
      runId: 'a',
      status: 'pending',
      note: 'needs about 1m01s by the step times of r, 1m01s of --max-hours are left',
    });
    expect(leftOutFor(run, { ...estimate, isScaled: true }, 5)?.note).toBe(
      'needs about 1m01s by the FLOP/s of r, 5s of --max-hours are left',
    );
  });

  it('is one of at most five in the message', () => {
    const ends = Array.from(
      { length: 8 },
      (_, i) => ({ runId: `r${i}`, status: 'pending', note: 'late' }) as const,
    );
    const lines = leftOutText(ends).split('\n');
    expect(lines).toHaveLength(8);
    expect([lines[0], lines[1], lines[5], lines[6]]).toEqual([
      '8 runs not started:',
      'r0: late',
      'r4: late',
      'and 3 more',
    ]);
    expect(lines[7]).toContain('--max-hours');
  });
});
