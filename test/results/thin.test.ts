/** Thinned step tables: figures' curves stay the same, special rows keep their step, quartiles are computed first. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { smoothed } from '../../src/report/smoothed.js';
import type { DoneRun } from '../../src/report/study.js';
import type { StepRow } from '../../src/results/columns.js';
import { planRow, readResult, runFiles, writeResult } from '../../src/results/run-folder.js';
import { appendStep, readSteps } from '../../src/results/steps.js';
import { CURVE_ROWS, thinRun, thinSteps } from '../../src/results/thin.js';
import { plannedRun } from './planned-run.js';

const row = (step: number, change: Partial<StepRow> = {}): StepRow => ({
  step,
  tokens: 1024 * step,
  loss: 1 + Math.sin(step) / 3,
  heldout_loss: null,
  learning_rate: 1 / 3,
  grad_norm: step / 7,
  predictor_accuracy: 1 - 1 / (step + 2),
  step_ms: step,
  expert_load: null,
  expert_dropped: null,
  expert_no_op: null,
  ...change,
});
const rows = (count: number, change: (step: number) => Partial<StepRow> = () => ({})): StepRow[] =>
  Array.from({ length: count }, (_, i) => row(i + 1, change(i + 1)));

describe('thinSteps', () => {
  it.each([49, 100, 967, 1000])(
    'leaves the smoothed curves of %d rows as they are, to the last bit',
    (count) => {
      const curve = (steps: readonly StepRow[], column: 'loss' | 'predictor_accuracy') =>
        smoothed(
          { steps: () => [...steps], row: { steps: count, train_flops: 1e15 } } as DoneRun,
          (one) => one[column],
        );
      const dense = rows(count);
      const thinned = thinSteps(dense);
      expect(thinned).toHaveLength(CURVE_ROWS);
      expect(curve(thinned, 'loss')).toEqual(curve(dense, 'loss'));
      expect(curve(thinned, 'predictor_accuracy')).toEqual(curve(dense, 'predictor_accuracy'));
    },
  );

  it('averages loss, accuracy, time and expert shares, and takes the rest from the last row', () => {
    const [first] = thinSteps(
      rows(96, (step) => ({
        expert_load: step % 2 === 1 ? '0.5000 0.2500' : '0.4000 0.2600',
        expert_dropped: step,
      })),
    );
    expect(first).toEqual({
      step: 2,
      tokens: 2048,
      loss: (1 + Math.sin(1) / 3 + 1 + Math.sin(2) / 3) / 2,
      heldout_loss: null,
      learning_rate: 0.333333,
      grad_norm: 0.285714,
      predictor_accuracy: (1 - 1 / 3 + 1 - 1 / 4) / 2,
      step_ms: 1.5,
      expert_load: '0.4500 0.2550',
      expert_dropped: 1.5,
      expert_no_op: null,
    });
  });

  it('ends a merged row at a held-out loss and at a non-finite loss', () => {
    const thinned = thinSteps(
      rows(480, (step) => (step === 15 ? { heldout_loss: 2 } : step === 33 ? { loss: Number.NaN } : {})),
    );
    expect(thinned.slice(0, 6).map(({ step, heldout_loss }) => [step, heldout_loss])).toEqual([
      [10, null],
      [15, 2],
      [20, null],
      [30, null],
      [33, null],
      [40, null],
    ]);
    expect(thinned.flatMap(({ step, loss }) => (Number.isNaN(loss) ? [step] : []))).toEqual([33]);
    expect(thinned.length).toBeGreaterThan(CURVE_ROWS);
    expect(thinSteps(thinned)).toBe(thinned);
  });
});

describe('thinRun', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'mod-thin-'));
    mkdirSync(folder, { recursive: true });
    for (const one of rows(100)) appendStep(runFiles(folder).steps, one);
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('thins a finished run once, after computing the quartiles of its step times', () => {
    writeResult(folder, { ...planRow(plannedRun('a')), status: 'done', step_ms: 55.5 });
    expect(thinRun(folder)).toEqual({ before: 100, after: CURVE_ROWS });
    // Over steps 11 to 100, which took 11 to 100 ms.
    expect(readResult(folder)).toMatchObject({ step_ms: 55.5, step_ms_q1: 33.25, step_ms_q3: 77.75 });
    const thinned = readSteps(runFiles(folder).steps);
    expect(thinned.at(-1)?.step).toBe(100);
    expect(thinRun(folder)).toEqual({ before: CURVE_ROWS, after: CURVE_ROWS });
    expect(readSteps(runFiles(folder).steps)).toEqual(thinned);
  });

  it('keeps quartiles that the run recorded', () => {
    writeResult(folder, { ...planRow(plannedRun('a')), status: 'done', step_ms_q1: 1, step_ms_q3: 2 });
    thinRun(folder);
    expect(readResult(folder)).toMatchObject({ step_ms_q1: 1, step_ms_q3: 2 });
  });

  it.each([null, 'failed', 'interrupted'] as const)('leaves a run with status %s unchanged', (status) => {
    if (status !== null) writeResult(folder, { ...planRow(plannedRun('a')), status });
    expect(thinRun(folder)).toBe(null);
    expect(readSteps(runFiles(folder).steps)).toHaveLength(100);
  });
});
