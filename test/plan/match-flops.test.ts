/** `match_flops`: how close the shapes come, depth before width, and which baseline is matched. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { planCommand } from '../../src/commands/plan.js';
import {
  CHINCHILLA_SHAPES,
  customShape,
  type Shape,
  shapeNamed,
  shapeProblem,
} from '../../src/config/shapes.js';
import { parseSweepFile } from '../../src/config/sweep-file.js';
import type { ModelConfig } from '../../src/model/config.js';
import { flopsPerPass } from '../../src/model/flops.js';
import { expandSweep } from '../../src/plan/expand.js';
import { matchFlops } from '../../src/plan/match-flops.js';
import { baselinesOf } from '../../src/report/baseline.js';
import { optimalFlops, plannedRuns, syntheticRuns, writeSweep } from '../report/synthetic.js';
import { modelConfig } from '../support/model-config.js';

const results = mkdtempSync(join(tmpdir(), 'mod-match-'));
afterAll(() => rmSync(results, { recursive: true }));

const modelOf =
  (capacity: number, frequency: number) =>
  ({ name: _, ...sizes }: Shape): ModelConfig =>
    modelConfig({
      vocab_size: 32000,
      ...sizes,
      sequence_length: 2048,
      routing: { frequency, capacity, predictor_hidden: 64 },
    });

describe.each([
  [0.125, 2],
  [0.5, 2],
  [0.125, 1],
])('capacity %f, frequency %i', (capacity, frequency) => {
  it.each(CHINCHILLA_SHAPES.slice(0, 12))('comes within 3%% of $name, deeper and about as wide', (base) => {
    const model = modelOf(capacity, frequency);
    const wanted = flopsPerPass({ ...model(base), routing: null }).total;
    const shape = matchFlops(wanted, base, model);
    expect(Math.abs(flopsPerPass(model(shape)).total / wanted - 1)).toBeLessThan(0.03);
    expect(shape.n_layers).toBeGreaterThan(base.n_layers);
    expect(Math.abs(shape.d_model / base.d_model - 1)).toBeLessThanOrEqual(0.15);
    expect(shape.n_heads).toBe(base.n_heads);
    expect(shape.d_model % (2 * shape.n_heads)).toBe(0);
    expect(shape.d_model % 8).toBe(0);
  });
});

it('keeps the width if depth alone comes close enough', () => {
  const base = customShape(256, 8);
  const model = modelOf(0.125, 2);
  const deeper = { ...base, n_layers: 13 };
  expect(matchFlops(1.001 * flopsPerPass(model(deeper)).total, base, model)).toEqual(customShape(256, 13));
});

it.each([
  ['217M', { d_model: 896, n_layers: 18, n_heads: 14, d_ff: 3584 }],
  ['d256l4', { d_model: 256, n_layers: 4, n_heads: 4, d_ff: 1024 }],
  ['d256l4h2f512', { d_model: 256, n_layers: 4, n_heads: 2, d_ff: 512 }],
])('finds the shape %s by its name', (name, sizes) => expect(shapeNamed(name)).toEqual({ name, ...sizes }));

it.each(['quick', 'd256', 'd256l4x'])('%s names no shape', (name) => {
  expect(shapeNamed(name)).toBeNull();
  expect(shapeProblem(name)).toBeNull();
});

it.each([
  ['d257l4', 'd_model 257 is odd, and rotary positions pair its halves'],
  ['d16l2h3', 'n_heads 3 does not divide d_model 16 into heads of an even size'],
  ['d16l2h0', 'n_heads must be above 0'],
  ['d0l4', 'd_model must be above 0'],
  ['d64l0', 'n_layers must be above 0'],
  ['d64l4f0', 'd_ff must be above 0'],
])('%s is a shape that no model has, for mod plan and in a file: %s', async (name, problem) => {
  expect(shapeNamed(name)).toBeNull();
  const options = { json: false, results, matchFlops: name };
  await expect(planCommand('configs/quick.yaml', options, () => undefined)).rejects.toThrow(
    `--match-flops ${name}: not a valid shape: ${problem}`,
  );
  const file = `name: a\nflop_budgets: [1e9]\nmodel_sizes: {match_flops: ${name}}\ndata: {text: a, heldout_text: b}\n`;
  expect(() => parseSweepFile('s.yaml', file)).toThrow(
    `s.yaml:3:28: model_sizes.match_flops: found ${name}, which is not a valid shape: ${problem}; allowed: a size, `,
  );
});

const FILE = 'flop_budgets: [1e15]\ncapacities: [0.125]\nrouters: [learned, random]\n';

it('the key takes a shape: the baseline has it, each routed setting the shape that matches it', () => {
  const runs = plannedRuns(`${FILE}model_sizes: {match_flops: {d_model: 128, n_layers: 6}}\n`);
  expect(runs.map(({ spec }) => spec.variant)).toEqual(['baseline', 'mod', 'random']);
  const [dense, ...routed] = runs.map(({ flops_per_pass }) => flops_per_pass) as [number, number, number];
  expect(runs[0]?.run_id).toBe('1e15-baseline-d128l6-s0');
  for (const flops of routed) expect(Math.abs(flops / dense - 1)).toBeLessThan(0.03);
});

describe('of a finished sweep', () => {
  writeSweep(results, syntheticRuns({ file: FILE, noise: 0 }));
  const text = (sweep: string, budget = '1e15') =>
    `name: matched\nflop_budgets: [${budget}]\ncapacities: [0.125]\nsequence_length: 256\nbatch_sequences: 16\ndata: {text: a, heldout_text: b}\nmodel_sizes: {match_flops: ${sweep}}\n`;
  const plan = (sweep: string, budget?: string) => {
    const file = parseSweepFile(join(results, 's.yaml'), text(sweep, budget));
    return expandSweep(file, baselinesOf(file, results));
  };

  it.each(['made', './made'])('takes the FLOPs per pass of its optimal baseline: %s', (sweep) => {
    const known = optimalFlops(plannedRuns(FILE), 1e15);
    const [dense, mod] = plan(sweep);
    expect(dense?.flops_per_pass).toBeCloseTo(known, -3); // the middle size is the optimum of the synthetic truth
    expect(Math.abs((mod?.flops_per_pass as number) / known - 1)).toBeLessThan(0.03);
  });

  it('names a budget that the sweep does not have, and a sweep that is not there', () => {
    expect(() => plan('made', '1e16')).toThrow(
      /s\.yaml: match_flops: .*made: its dense runs have only 1e15 FLOPs$/,
    );
    expect(() => plan('nothing')).toThrow(/s\.yaml: match_flops: nothing: not the folder of a sweep or run/);
  });

  it('mod plan --match-flops puts it in place of the file’s sizes, and says what was matched', async () => {
    const printed: string[] = [];
    const open = () => ({ tokens: 1e9, files: [], read: () => undefined, close: () => undefined });
    const options = { json: false, results, matchFlops: 'made' };
    await planCommand('configs/quick.yaml', options, (part) => printed.push(part), open).catch(
      (error: Error) => printed.push(error.message),
    );
    expect(printed.join()).toContain('its dense runs have only 1e15 FLOPs'); // the budget of quick.yaml is another
    printed.length = 0;
    await planCommand(
      'configs/quick.yaml',
      { ...options, matchFlops: 'd96l4' },
      (part) => printed.push(part),
      open,
    );
    expect(printed.join()).toMatch(/quick: 3 of 3 runs[\s\S]*1\.1e11-baseline-d96l4-s0/);
  });
});
