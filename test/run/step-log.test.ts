/** Rows of steps.csv, and the summary of steps in a run's row. */
import { expect, it } from 'vitest';
import type { StepRow } from '../../src/results/columns.js';
import { StepLog } from '../../src/run/step-log.js';
import type { StepReport } from '../../src/train/trainer.js';

function logged(steps: number, change: (step: number) => Partial<StepReport> = () => ({})) {
  const rows: StepRow[] = [];
  const log = new StepLog(steps, (row) => rows.push(row));
  for (let step = 1; step <= steps; step++) {
    log.add({
      step,
      tokens: step * 8,
      loss: step,
      learningRate: 1e-3,
      gradNorm: 1,
      predictorAccuracy: null,
      experts: null,
      heldoutLoss: null,
      stepMs: step === 1 ? 1000 : 10,
      ...change(step),
    });
  }
  return { rows, summary: log.summary() };
}

it('a short run has one row per step', () => {
  const { rows } = logged(3);
  expect(rows.map(({ step, loss, step_ms }) => [step, loss, step_ms])).toEqual([
    [1, 1, 1000],
    [2, 2, 10],
    [3, 3, 10],
  ]);
});

it('a long run has at most about 1000 rows, each a mean since the previous row, including the last step', () => {
  const { rows } = logged(2501);
  expect(rows).toHaveLength(834);
  expect(rows.slice(0, 2).map(({ step, loss }) => [step, loss])).toEqual([
    [3, 2],
    [6, 5],
  ]);
  expect(rows.at(-1)).toMatchObject({ step: 2501, loss: (2500 + 2501) / 2 });
});

it('a held-out loss and a NaN loss are written at once', () => {
  const { rows } = logged(4000, (step) => ({
    heldoutLoss: step === 5 ? 1.5 : null,
    loss: step === 7 ? Number.NaN : 1,
  }));
  expect(rows.slice(0, 4).map(({ step, heldout_loss }) => [step, heldout_loss])).toEqual([
    [4, null],
    [5, 1.5],
    [7, null],
    [8, null],
  ]);
  expect(rows[2]?.loss).toBeNaN();
});

it('summary: mean loss of the last tenth, median and quartiles of the time without the first tenth', () => {
  const timed = logged(100, (step) => ({ stepMs: step <= 10 ? 1000 : step }));
  expect(timed.summary).toMatchObject({
    train_loss: 95.5,
    step_ms: 55.5,
    step_ms_q1: 33.25,
    step_ms_q3: 77.75,
  });
  expect(logged(1).summary).toMatchObject({ train_loss: 1, step_ms: 1000, expert_load: null });
});

it('expert shares: a row has the means over its steps, a run over its last tenth', () => {
  const { rows, summary } = logged(2000, (step) => ({
    experts: { load: [0.5, 0.25], dropped: step <= 1800 ? 0.25 : 0.125, noOp: step % 2 === 0 ? 0.5 : 0 },
  }));
  expect(rows[0]).toMatchObject({ expert_load: '0.5000 0.2500', expert_dropped: 0.25, expert_no_op: 0.25 });
  expect(summary).toMatchObject({ expert_load: '0.5000 0.2500', expert_dropped: 0.125, expert_no_op: 0.25 });
});
