/** steps.csv: appending rows, truncating to a step, and reading without an incomplete last line. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { STEP_COLUMNS, type StepRow } from '../../src/results/columns.js';
import { appendStep, readSteps, truncateSteps } from '../../src/results/steps.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mod-steps-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('steps.csv', () => {
  const row = (step: number): StepRow => ({
    step,
    tokens: step * 1024,
    loss: 1 / 3,
    heldout_loss: null,
    learning_rate: 1e-3,
    grad_norm: 1.5,
    predictor_accuracy: null,
    step_ms: 12.25,
    expert_load: '0.7500 0.2500',
    expert_dropped: 0.125,
    expert_no_op: null,
  });

  it('has one header, and continues after truncation as if it had never been longer', () => {
    const [steps, straight] = [join(folder, 'steps.csv'), join(folder, 'straight.csv')];
    for (const step of [5, 10, 15, 20]) appendStep(straight, row(step));
    for (const step of [5, 10, 15]) appendStep(steps, row(step));
    writeFileSync(steps, '20,2048', { flag: 'a' }); // a line that a crash cut short
    truncateSteps(steps, 12);
    for (const step of [15, 20]) appendStep(steps, row(step));
    expect(readFileSync(steps, 'utf8')).toBe(readFileSync(straight, 'utf8'));
    expect(readSteps(steps)).toEqual([5, 10, 15, 20].map(row));
  });

  it('is read without an incomplete last line or header, left by a crash or a full disk', () => {
    const steps = join(folder, 'torn.csv');
    writeFileSync(steps, 'step,tok');
    expect(readSteps(steps)).toEqual([]);
    writeFileSync(steps, '');
    for (const step of [5, 10]) appendStep(steps, row(step));
    for (const torn of ['1', '15,2048', '15,2048,"0.']) {
      const whole = readFileSync(steps, 'utf8');
      writeFileSync(steps, torn, { flag: 'a' });
      expect(readSteps(steps)).toEqual([5, 10].map(row));
      writeFileSync(steps, whole);
    }
  });

  it('can be read from a version without experts', () => {
    const steps = join(folder, 'older.csv');
    const older = STEP_COLUMNS.filter((column) => !column.startsWith('expert_'));
    writeFileSync(steps, `${older.join()}\n${older.map(() => '1').join()}\n`);
    expect(readSteps(steps)).toMatchObject([{ step: 1, step_ms: 1, expert_load: null, expert_no_op: null }]);
  });

  it('can be truncated to its header, with any content', () => {
    const steps = join(folder, 'cut.csv');
    truncateSteps(steps, 0);
    expect(readSteps(steps)).toEqual([]);
    writeFileSync(steps, 'step,tok');
    truncateSteps(steps, 0);
    expect(readFileSync(steps, 'utf8')).toBe(`${STEP_COLUMNS.join()}\n`);
  });
});
