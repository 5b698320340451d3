/** Predictions of the next budget: honest intervals, dated files, scores once the budget is trained. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { reportCommand } from '../../src/commands/report.js';
import { InputError } from '../../src/errors.js';
import { randomStream } from '../../src/random.js';
import { routedParams } from '../../src/report/joint-law.js';
import { type Predicted, type Prediction, predict, scoresOf } from '../../src/report/prediction.js';
import { readPredictions, writePrediction } from '../../src/report/prediction-files.js';
import { reportOf } from '../../src/report/report.js';
import { studyOf } from '../../src/report/study.js';
import { loadRuns } from '../../src/results/load.js';
import { syntheticRuns, writeSweep } from './synthetic.js';

const SHAPES = [64, 96, 128, 192, 256, 384].flatMap((d) =>
  [4, 8].map((l) => `{d_model: ${d}, n_layers: ${l}}`),
);
/** Runs whose losses follow a law in which a routed parameter counts 0.1. */
function lawRuns(budgets: string) {
  const random = randomStream(0, 'prediction');
  return syntheticRuns({
    file: `flop_budgets: ${budgets}\ncapacities: [0.125]\nmodel_sizes: [${SHAPES}]\n`,
    entropyCorrelation: null,
  }).map((run) => {
    const { model } = run.spec;
    const size = run.row.params_total - (model.routing === null ? 0 : 0.9 * routedParams(model));
    const loss = (0.4 + 80 / size ** 0.42 + 5e4 / run.row.tokens ** 0.67) * Math.exp(0.002 * random.normal());
    return { ...run, row: { ...run.row, loss } };
  });
}
const SMALL = lawRuns('[1e15, 4e15]');
const ALL = lawRuns('[1e15, 4e15, 1.6e16]');

describe('a prediction', () => {
  const predicted = predict(SMALL, 1.6e16);

  it('has a shape, a loss and an interval for each kind, and their difference', () => {
    expect(predicted.kinds.map(({ kind }) => kind).sort()).toEqual(['MoD 12.5%, every other block', 'dense']);
    for (const { loss, interval, params_total, tokens, flops_per_pass } of predicted.kinds) {
      expect(interval[0]).toBeLessThan(loss);
      expect(interval[1]).toBeGreaterThan(loss);
      expect(params_total).toBeGreaterThan(1e5);
      expect((3 * tokens * flops_per_pass) / 256).toBeCloseTo(1.6e16, -6);
    }
    const { interval, value } = predicted.difference;
    expect(interval[0]).toBeLessThan(value);
    expect(interval[1]).toBeGreaterThan(value);
  });

  it('covers the best that was trained at that budget', () => {
    const { kinds, difference } = scoresOf(studyOf(ALL), [{ ...predicted, ...ABOUT }])[0] ?? {};
    expect(kinds?.map(({ inside }) => inside)).toEqual([true, true]);
    expect(difference?.inside).toBe(true);
  });

  it('uses no run of its budget or of a larger one', () => {
    expect(predict(ALL, 1.6e16)).toEqual(predicted);
  });

  it('needs dense and MoD runs at two smaller budgets', () => {
    expect(() => predict(SMALL, 4e15)).toThrow(InputError);
  });

  it('reaches at most 30 times the largest budget', () => {
    expect(() => predict(SMALL, 1e18)).toThrow('more than 30 times the largest budget below it, 4e15');
  });
});

const ABOUT: Omit<Prediction, keyof Predicted> = {
  format: 'mod-prediction-1',
  predicted_at: '2026-01-01T00:00:00.000Z',
  mod: '0.1.0',
  git_commit: null,
  sweeps: ['made'],
};

describe('a file of a prediction', () => {
  let results: string;
  beforeAll(() => {
    results = mkdtempSync(join(tmpdir(), 'mod-prediction-'));
  });
  afterAll(() => rmSync(results, { recursive: true }));

  it('is written beside the report, is listed as open, and is scored once its budget is trained', async () => {
    const sweep = writeSweep(results, SMALL);
    const printed: string[] = [];
    const print = (text: string) => void printed.push(text);
    const options = { results, watch: false, json: false };
    await reportCommand(['made'], { ...options, predict: 1.6e16 }, print);
    expect(printed[0]).toMatch(/report\/prediction-1\.6e16-\d{4}-\d\d-\d\d\.json$/);
    const page = () => readFileSync(join(sweep, 'report', 'index.html'), 'utf8');
    expect(page()).toContain('not trained');

    writeSweep(
      results,
      ALL.filter(({ row }) => row.flop_budget === 1.6e16),
      'larger',
    );
    await reportCommand(['made', 'larger'], { ...options, out: join(results, 'both') }, print);
    const numbers = JSON.parse(readFileSync(join(results, 'both', 'report.json'), 'utf8'));
    expect(numbers.predictions.pending).toEqual([]);
    expect(numbers.predictions.scores[0].kinds).toHaveLength(2);
    expect(readFileSync(join(results, 'both', 'index.html'), 'utf8')).toContain('within the interval');
  });

  it('is never overwritten, and is read back', () => {
    const predicted = predict(SMALL, 1.6e16);
    const now = new Date('2026-12-01T10:00:00Z');
    const folder = join(results, 'dated');
    mkdirSync(folder);
    const paths = [1, 2].map(() => writePrediction(folder, predicted, ['made'], now));
    expect(paths.map((path) => path.replace(folder, ''))).toEqual([
      '/prediction-1.6e16-2026-12-01.json',
      '/prediction-1.6e16-2026-12-01-2.json',
    ]);
    expect(readPredictions([folder, folder, join(results, 'missing')])).toHaveLength(2);
    expect(readPredictions([folder])[0]).toMatchObject(predicted);
    writeFileSync(join(folder, 'prediction-mine.json'), '{}');
    expect(() => readPredictions([folder])).toThrow('prediction-mine.json: not a prediction');
  });
});

it('five hundred runs are analysed and drawn within 5 s of processor time', () => {
  const seeds = Array.from({ length: 14 }, (_, i) => i);
  const runs = syntheticRuns({
    file: `flop_budgets: [1e15, 4e15]\ncapacities: [0.125, 0.5]\nmodel_sizes: [${SHAPES.slice(0, 6)}]\nseeds: [${seeds}]\n`,
  });
  expect(runs.length).toBeGreaterThanOrEqual(500);
  const start = process.cpuUsage();
  reportOf(runs);
  const { user, system } = process.cpuUsage(start);
  expect((user + system) / 1e6).toBeLessThan(5);
});

it('backtest: the study’s largest budget is within what its two smaller ones predict', () => {
  const runs = loadRuns(['results/linux-bytes']);
  const [score] = scoresOf(studyOf(runs), [{ ...predict(runs, 3e16), ...ABOUT }]);
  expect(score?.kinds.length).toBeGreaterThanOrEqual(3);
  for (const { kind, inside } of score?.kinds ?? []) expect(inside, kind).toBe(true);
  expect(score?.difference).toMatchObject({ inside: true });
  // The intervals of docs/study.md.
  expect(score?.difference?.predicted).toBeCloseTo(-0.009, 3);
});
