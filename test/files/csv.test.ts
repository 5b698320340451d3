/** CSV: the columns in their order, nothing for unknown, numbers as JavaScript prints them, any text unharmed. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { formatCsv, readCsv, writeCsv } from '../../src/files/csv.js';
import {
  EVAL_COLUMNS,
  type EvalRow,
  RUN_COLUMNS,
  type RunRow,
  STEP_COLUMNS,
  type StepRow,
  TEXT_COLUMNS,
  TIME_COLUMNS,
} from '../../src/results/columns.js';
import { appendStep, cutSteps, readSteps } from '../../src/results/steps.js';

let folder: string;
let path: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mod-csv-'));
  path = join(folder, 'a.csv');
});
afterAll(() => rmSync(folder, { recursive: true }));

// Compiles only if no key of a row is missing from its columns.
const complete: [
  Exclude<keyof RunRow, (typeof RUN_COLUMNS)[number]>,
  Exclude<keyof EvalRow, (typeof EVAL_COLUMNS)[number]>,
  Exclude<keyof StepRow, (typeof STEP_COLUMNS)[number]>,
] extends [never, never, never]
  ? true
  : false = true;

describe('columns', () => {
  it('are these, in this order', () => {
    expect(complete).toBe(true);
    expect(RUN_COLUMNS.join(', ')).toBe(
      'run_id, status, variant, flop_budget, capacity, routing_frequency, router, gate, params_total, params_non_embedding, d_model, n_layers, n_heads, d_ff, sequence_length, batch_sequences, steps, tokens, flops_per_pass, flops_per_pass_vs_dense, train_flops, loss, loss_routing, train_loss, step_ms, tokens_per_s, model_flops_utilization, peak_memory_bytes, wall_s, backend, device, precision, seed, started_at, finished_at, git_commit, config_hash, note, params_active, expert_load, expert_dropped, expert_no_op',
    );
    expect(EVAL_COLUMNS.join(', ')).toBe(
      'run_id, routing, sequences, loss, loss_se, loss_minus_topk, flops_per_pass, participation, predictor_accuracy, always_skip_accuracy, predictor_precision, predictor_recall, tokens_per_s, peak_memory_bytes, backend, device, evaluated_at',
    );
    expect(STEP_COLUMNS.join(', ')).toBe(
      'step, tokens, loss, heldout_loss, learning_rate, grad_norm, predictor_accuracy, step_ms, expert_load, expert_dropped, expert_no_op',
    );
    expect([...TIME_COLUMNS].join(', ')).toBe(
      'step_ms, tokens_per_s, model_flops_utilization, peak_memory_bytes, wall_s, device, started_at, finished_at, evaluated_at, git_commit',
    );
  });
});

describe('csv', () => {
  it('prints numbers as JavaScript does, unknown as nothing', () => {
    const row = {
      run_id: 'a',
      flop_budget: 6e18,
      capacity: 0.1 + 0.2,
      loss: null,
      steps: 0,
      train_flops: 1e21,
    };
    expect(
      formatCsv(['run_id', 'flop_budget', 'capacity', 'loss', 'steps', 'note', 'train_flops'], [row]),
    ).toBe(
      'run_id,flop_budget,capacity,loss,steps,note,train_flops\na,6000000000000000000,0.30000000000000004,,0,,1e+21\n',
    );
  });

  it('reads back any row', () => {
    const text = fc.option(fc.string({ unit: 'binary', minLength: 1 }));
    const number = fc.option(fc.double().map((value) => value + 0)); // no -0, which prints as 0
    const row = fc.tuple(...RUN_COLUMNS.map((column) => (TEXT_COLUMNS.has(column) ? text : number)));
    fc.assert(
      fc.property(fc.array(row, { maxLength: 4 }), (cells) => {
        const rows = cells.map((row) =>
          Object.fromEntries(RUN_COLUMNS.map((name, i) => [name, row[i] ?? null])),
        );
        writeCsv(path, RUN_COLUMNS, rows);
        expect(readCsv<RunRow>(path, RUN_COLUMNS)).toEqual(rows);
      }),
      { numRuns: 60 },
    );
  });

  it('reads what a spreadsheet saved: other line ends, more columns, another order', () => {
    writeFileSync(path, '\ufeffmore,tokens,step\r\nx,20,1\r\n');
    expect(readCsv<{ step: number; tokens: number }>(path, ['step', 'tokens'])).toEqual([
      { step: 1, tokens: 20 },
    ]);
  });

  it.each([
    ['step,loss\n1,x\n', /a\.csv:2: loss: 'x' is no number/],
    ['step\n1\n', /the column loss is missing/],
    ['step,loss\n1\n', /cannot be read as CSV/],
  ])('refuses %j', (content, message) => {
    writeFileSync(path, content);
    expect(() => readCsv<StepRow>(path, ['step', 'loss'])).toThrow(InputError);
    expect(() => readCsv<StepRow>(path, ['step', 'loss'])).toThrow(message);
  });
});

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

  it('has its head once, and goes on after being cut back as if it had never been longer', () => {
    const [steps, straight] = [join(folder, 'steps.csv'), join(folder, 'straight.csv')];
    for (const step of [5, 10, 15, 20]) appendStep(straight, row(step));
    for (const step of [5, 10, 15]) appendStep(steps, row(step));
    writeFileSync(steps, '20,2048', { flag: 'a' }); // what a crash left of a line
    cutSteps(steps, 12);
    for (const step of [15, 20]) appendStep(steps, row(step));
    expect(readFileSync(steps, 'utf8')).toBe(readFileSync(straight, 'utf8'));
    expect(readSteps(steps)).toEqual([5, 10, 15, 20].map(row));
  });

  it('is read without what a crash or a full disk left of its last line, or of its head', () => {
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

  it('of a version that knew no experts can be read', () => {
    const steps = join(folder, 'older.csv');
    const older = STEP_COLUMNS.filter((column) => !column.startsWith('expert_'));
    writeFileSync(steps, `${older.join()}\n${older.map(() => '1').join()}\n`);
    expect(readSteps(steps)).toMatchObject([{ step: 1, step_ms: 1, expert_load: null, expert_no_op: null }]);
  });

  it('is cut back to its head alone, whatever is there', () => {
    const steps = join(folder, 'cut.csv');
    cutSteps(steps, 0);
    expect(readSteps(steps)).toEqual([]);
    writeFileSync(steps, 'step,tok');
    cutSteps(steps, 0);
    expect(readFileSync(steps, 'utf8')).toBe(`${STEP_COLUMNS.join()}\n`);
  });
});
