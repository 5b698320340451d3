/** Each claim on sweeps with a known truth: it holds, it fails, or it is not tested. */
import { describe, expect, it } from 'vitest';
import type { Variant } from '../../src/model/variants.js';
import type { PlannedRun } from '../../src/plan/run.js';
import { claimsOf } from '../../src/report/claims/all.js';
import type { Claim } from '../../src/report/claims/claim.js';
import { t95 } from '../../src/report/distributions.js';
import { studyOf } from '../../src/report/study.js';
import type { LoadedRun } from '../../src/results/load.js';
import { syntheticRuns, type Truth } from './synthetic.js';

function claim(id: string, changes: Partial<Truth> = {}): Claim {
  const found = claimsOf(studyOf(syntheticRuns(changes))).find((one) => one.id === id);
  if (found === undefined) throw new Error(`no claim ${id}`);
  return found;
}

const ONE = 'flop_budgets: [1e15]\n';
const gainOfMod = (gain: number) => ({
  gain: ({ spec }: PlannedRun) => (spec.variant === 'mod' ? gain : spec.variant === 'random' ? 0.1 : 0),
});
const byRouting = (gain: (capacity: number, frequency: number, aux: number) => number) => ({
  gain: ({ spec: { model } }: PlannedRun) =>
    model.routing === null
      ? 0
      : gain(model.routing.capacity, model.routing.frequency, model.routing.aux_loss_weight),
});
const FREQUENCIES = { file: `${ONE}capacities: [0.125]\nrouting_frequencies: [1, 2]\n` };
/** With every block routed, a pass of the same shapes costs a third. */
const IN_RANGE = {
  flopsFactor: ({ spec: { model } }: PlannedRun) => (model.routing?.frequency === 1 ? 0.3 : 1),
};
const CAPACITIES = { file: `${ONE}capacities: [0.0625, 0.125, 0.5]\n` };
const AUXILIARY = {
  file: `${ONE}capacities: [0.125]\ngrids: [{}, {baseline: false, routing: {aux_loss_weight: 0.01}}]\n`,
};
const DEPTHS = {
  file: `${ONE}capacities: [0.125]\nmodel_sizes: [{d_model: 64, n_layers: 12}, {d_model: 96, n_layers: 6}, {d_model: 128, n_layers: 4}, {d_model: 128, n_layers: 8}, {d_model: 256, n_layers: 2}, {d_model: 256, n_layers: 8}]\n`,
};

/** A claim, a truth in which it holds, and a truth in which it fails. */
const CASES: [string, Partial<Truth>, Partial<Truth>][] = [
  ['mod-better', {}, gainOfMod(0.03)],
  ['mod-larger', {}, { flopsFactor: ({ spec }) => (spec.variant === 'mod' ? 0.25 : 1) }],
  ['random-worse', {}, { gain: ({ spec }) => (spec.variant === 'random' ? -0.1 : 0) }],
  [
    'every-other-block',
    { ...FREQUENCIES, ...IN_RANGE, ...byRouting((_, f) => (f === 2 ? -0.03 : 0)) },
    { ...FREQUENCIES, ...IN_RANGE, ...byRouting((_, f) => (f === 1 ? -0.03 : 0)) },
  ],
  [
    'capacity-12.5',
    { ...CAPACITIES, ...byRouting((c) => (c === 0.125 ? -0.03 : 0)) },
    { ...CAPACITIES, ...byRouting((c) => (c === 0.5 ? -0.03 : 0)) },
  ],
  ['faster-at-equal-loss', {}, gainOfMod(0.03)],
  ['better-at-equal-time', {}, { stepMs: (flops, dense) => (5 * dense) / 1e9 + (flops < dense ? 1e6 : 0) }],
  ['step-time', {}, { stepMs: (_, dense) => dense / 1e9 }],
  ['memory', {}, { file: `${ONE}capacities: [0.999]\nrouting: {predictor_hidden: 64}\n` }],
  ['predictor-accuracy', {}, { accuracy: (share) => 0.875 + 0.1 * share }],
  ['predictor-cost', {}, { causalRise: 0.05 }],
  ['threshold', AUXILIARY, { ...AUXILIARY, causalRise: 0.05 }],
  [
    'auxiliary-cost',
    { ...AUXILIARY, ...byRouting((_c, _f, aux) => (aux > 0 ? -0.02 : -0.03)) },
    { ...AUXILIARY, ...byRouting((_c, _f, aux) => (aux > 0 ? 0.07 : -0.03)) },
  ],
  ['cheaper-in-sampling', { causalRise: 0 }, { causalRise: 0.1 }],
  ['entropy', {}, { entropyCorrelation: -0.3 }],
];

/** Claims with tests of their own, below. */
const OTHERS = ['depth', 'integrated-better', 'mode-better'];

it('every claim has a test', () => {
  const ids = claimsOf(studyOf(syntheticRuns({}))).map(({ id }) => id);
  expect(ids.sort()).toEqual([...CASES.map(([id]) => id), ...OTHERS].sort());
});

describe.each(CASES)('%s', (id, holds, fails) => {
  it('holds if it is true', () => expect(claim(id, holds)).toMatchObject({ verdict: 'holds' }));
  it('fails if it is false', () => expect(claim(id, fails)).toMatchObject({ verdict: 'fails' }));
  it('is not tested by dense runs alone, and states what it needs', () => {
    const found = claim(id, { file: `${ONE}capacities: []\n`, entropyCorrelation: null });
    expect(found).toMatchObject({ verdict: 'not tested', numbers: [] });
    expect(found.finding).toMatch(/^Needs /);
  });
});

it('a small difference in large noise is undecided', () => {
  expect(claim('mod-better', { ...gainOfMod(-0.001), noise: 0.02 }).verdict).toBe('undecided');
});

it('three sizes with one seed leave the uncertainty unknown and the claim undecided', () => {
  const sizes =
    'model_sizes: [{d_model: 64, n_layers: 4}, {d_model: 128, n_layers: 4}, {d_model: 256, n_layers: 4}]';
  const found = claim('mod-better', { file: `${ONE}capacities: [0.125]\n${sizes}\n` });
  expect(found.verdict).toBe('undecided');
  expect(found.finding).toContain('uncertainty unknown');
});

it('settings without a minimum in range are compared shape by shape, and not with the dense optimum', () => {
  // Two sizes with three seeds each: no curve has a minimum.
  const sizes = 'model_sizes: [{d_model: 64, n_layers: 4}, {d_model: 96, n_layers: 4}]\nseeds: [0, 1, 2]\n';
  const found = claim('random-worse', {
    file: `${ONE}capacities: [0.125]\nrouters: [learned, random]\n${sizes}`,
    gain: ({ spec }) => (spec.variant === 'random' ? 0.05 : 0),
  });
  const [fromMod, ...others] = found.numbers;
  expect(found.finding).toContain('shape by shape, 2 shapes');
  expect(found.finding).toMatch(
    /has 2 sizes of the three that a fit needs.* To decide it: 2 more sizes of it/,
  );
  expect(fromMod?.value).toBeCloseTo(0.05, 2); // the random control's FLOPs exclude the router
  expect(fromMod?.interval?.[0]).toBeGreaterThan(0.04);
  expect(others).toEqual([]);
  expect(found.verdict).toBe('undecided');
});

it('a control is compared with runs at the same learning rate', () => {
  const rates = 'training: {learning_rate: [1e-3, 4e-3]}\n';
  const runs = syntheticRuns({
    file: `${ONE}capacities: [0.125]\ngrids: [{${rates.trim()}}, {baseline: false, routers: [random], training: {learning_rate: 1e-3}}]\n`,
    gain: ({ spec }) =>
      (spec.training.learning_rate === 4e-3 ? -0.2 : 0) + (spec.variant === 'random' ? 0.05 : 0),
  });
  const found = claimsOf(studyOf(runs)).find(({ id }) => id === 'random-worse');
  expect(found?.numbers[0]?.value).toBeLessThan(0.1);
  expect(found?.verdict).toBe('holds');
});

it('deeper models that are better than wider ones with as many FLOPs are recognized', () => {
  const runs = syntheticRuns(DEPTHS);
  const shifted = (sign: number) =>
    runs.map((run) => ({
      ...run,
      row: { ...run.row, loss: 3 - sign * 0.1 * Math.log(run.row.n_layers / run.row.d_model) },
    }));
  const verdict = (sign: number) => claimsOf(studyOf(shifted(sign))).find(({ id }) => id === 'depth');
  expect(verdict(1)?.numbers[0]?.value).toBeLessThan(0);
  expect(verdict(-1)?.numbers[0]?.value).toBeGreaterThan(0);
});

it('one lucky seed does not represent a model, neither at equal time nor in sampling', () => {
  const lucky = ({ spec }: PlannedRun) => (spec.variant === 'mod' ? (spec.seed === 0 ? -0.1 : 0.1) : 0);
  const file = `${ONE}capacities: [0.125]\nseeds: [0, 1]\n`;
  for (const id of ['better-at-equal-time', 'cheaper-in-sampling']) {
    const [found] = claim(id, { file, gain: lucky, noise: 0, causalRise: 0 }).numbers;
    expect(found?.value).toBeCloseTo(0, 2);
    expect(found?.interval?.[0]).toBeLessThan(0);
  }
});

it('times are over all seeds: a slow first seed excludes no model', () => {
  const file = `${ONE}capacities: [0.125]\nseeds: [0, 1]\n`;
  const runs = syntheticRuns({ file }).map((run) => {
    const { variant, seed, step_ms } = run.row;
    const factor = variant === 'mod' ? (seed === 0 ? 1.3 : 0.7) : 1;
    return { ...run, row: { ...run.row, step_ms: (step_ms as number) * factor } };
  });
  const inTime = (of: LoadedRun[]) => claimsOf(studyOf(of)).find(({ id }) => id === 'better-at-equal-time');
  const share = inTime(runs)?.numbers[1]?.value as number;
  expect(share).toBeCloseTo(inTime(syntheticRuns({ file }))?.numbers[1]?.value as number, 9);
});

it('a model that may be worse by 1% does not count as equally good, however fast', () => {
  expect(claim('faster-at-equal-loss', { ...gainOfMod(-0.06), noise: 0.04 }).verdict).toBe('undecided');
});

it('a predictor has learned when it agrees over a range of steps, not at one step', () => {
  const lucky = (share: number) => (share === 0.1 ? 1 : 0.9 + 0.08 * share);
  expect(claim('predictor-accuracy', { accuracy: lucky }).finding).toMatch(/passed 97% after (8|9)\d/);
});

it('a model in several pairs counts as one model', () => {
  // About equal FLOPs per pass, each deeper than the next: three pairs, in which the middle one cancels out.
  const shapes = [
    [72, 12],
    [96, 7],
    [136, 4],
  ].map(([d_model, n_layers]) => `{d_model: ${d_model}, n_layers: ${n_layers}}`);
  const runs = syntheticRuns({
    file: `${ONE}capacities: [0.5]\nseeds: [0, 1, 2]\nmodel_sizes: [${shapes}]\n`,
  });
  const study = studyOf(runs);
  const found = claimsOf(study).find(({ id }) => id === 'depth')?.numbers[0];
  const mean = (layers: number) =>
    runs
      .filter(({ row }) => row.variant === 'mod' && row.n_layers === layers)
      .reduce((sum, { row }) => sum + (row.loss as number) / 3, 0);
  expect(found?.value).toBeCloseTo((2 / 3) * (mean(12) - mean(4)), 9);
  const { variance, freedom } = study.budgets[0]?.noise.pooled ?? { variance: Number.NaN, freedom: 1 };
  expect((found?.interval?.[1] ?? 0) - (found?.value ?? 0)).toBeCloseTo(
    t95(freedom) * Math.sqrt(variance) * (2 / 3) * Math.sqrt(2 / 3),
    9,
  );
});

it('budgets that disagree leave a claim undecided, and each is reported', () => {
  const found = claim('mod-better', {
    file: 'flop_budgets: [1e15, 1e16]\ncapacities: [0.125]\n',
    gain: ({ spec }) => (spec.variant === 'mod' ? (spec.flop_budget === 1e15 ? -0.03 : 0.03) : 0),
  });
  expect(found.verdict).toBe('undecided');
  expect(found.finding).toMatch(/^At 1e15 \(holds\): .*−0\.0\d+ .*\nAt 1e16 \(fails\): .*\+0\.0\d+ /);
  expect(new Set(found.numbers.map(({ flop_budget }) => flop_budget))).toEqual(new Set([1e15, 1e16]));
});

it('an undecided budget does not contradict a decided one', () => {
  const found = claim('mod-better', {
    file: 'flop_budgets: [1e15, 1e16]\ncapacities: [0.125]\n',
    gain: ({ spec }) => (spec.variant === 'mod' ? (spec.flop_budget === 1e15 ? 0 : -0.03) : 0),
    noise: 0.004,
  });
  expect(found.finding).toMatch(
    /^At 1e15 \(undecided\): .*\nAt 1e16 \(holds\): .*\nOne budget decides, 1e16\.$/,
  );
  expect(found).toMatchObject({ verdict: 'holds', decided_by: [1e16] });
});

it.each([
  ['an optimum above the sizes', { flopsFactor: () => 30 }, 'is above its largest size'],
  ['an optimum below the sizes', { flopsFactor: () => 1 / 30 }, 'is below its smallest size'],
])('%s leaves the claim undecided, with the runs that would decide it', (_, truth, reason) => {
  const found = claim('mod-better', truth);
  expect(found.verdict).toBe('undecided');
  expect(found.finding).toContain(reason);
  expect(found.finding).toMatch(/To decide it: (larger|smaller) models of it, of about \d/);
  expect(found.numbers.filter(({ name }) => name.includes('optimal'))).toEqual([]);
});

describe('no verdict rests on', () => {
  const verdictOf = (change: (run: LoadedRun) => LoadedRun, more: Partial<Truth> = {}) =>
    claimsOf(studyOf(syntheticRuns(more).map(change))).find(({ id }) => id === 'mod-better') as Claim;

  it('fewer than 64 held-out sequences', () => {
    const found = verdictOf((run) => ({
      ...run,
      evaluations: run.evaluations.map((one) => ({ ...one, sequences: 6 })),
    }));
    expect(found.verdict).toBe('undecided');
    expect(found.finding).toContain('6 held-out sequences, fewer than 64');
  });

  it('budgets of fewer than 200 steps', () => {
    const found = verdictOf((run) => ({ ...run, row: { ...run.row, steps: 150 } }));
    expect(found.verdict).toBe('undecided');
    expect(found.finding).toContain('150 steps, fewer than 200');
  });

  it('losses that do not follow the fit', () => {
    const seeds = { file: `${ONE}capacities: [0.125]\nseeds: [0, 1]\n` };
    const kinked = (run: LoadedRun) => {
      const shift = run.row.d_model === 128 ? 0.02 : 0;
      return { ...run, row: { ...run.row, loss: (run.row.loss as number) + shift } };
    };
    expect(verdictOf((run) => run, seeds).verdict).toBe('holds');
    const found = verdictOf(kinked, seeds);
    expect(found.verdict).toBe('undecided');
    expect(found.finding).toContain('lack of fit');
  });

  it('a dense setting of unknown optimum that is already better', () => {
    const rates = `{training: {learning_rate: 1e-3}}, {capacities: [], training: {learning_rate: 4e-3}, model_sizes: [{d_model: 128, n_layers: 4}]}`;
    const found = verdictOf((run) => run, {
      file: `${ONE}capacities: [0.125]\ngrids: [${rates}]\n`,
      gain: ({ spec }) => (spec.training.learning_rate === 4e-3 ? -0.05 : spec.variant === 'mod' ? -0.03 : 0),
    });
    expect(found.verdict).toBe('undecided');
    expect(found.finding).toContain('its best model is already at');
  });
});

it('times without their spread, or of two versions, decide nothing', () => {
  const of = (change: (run: LoadedRun) => Partial<LoadedRun['row']>) => {
    const runs = syntheticRuns().map((run) => ({ ...run, row: { ...run.row, ...change(run) } }));
    return claimsOf(studyOf(runs)).filter(({ id }) => TIMED.includes(id));
  };
  expect(of(() => ({})).map(({ verdict }) => verdict)).toEqual(['holds', 'holds', 'holds']);
  for (const claims of [
    of(() => ({ step_ms_q1: null, step_ms_q3: null })),
    of(({ row }) => ({ git_commit: row.variant })),
  ]) {
    expect(claims.map(({ verdict }) => verdict)).toEqual(['undecided', 'undecided', 'undecided']);
  }
});
const TIMED = ['faster-at-equal-loss', 'better-at-equal-time', 'step-time'];

it('numbers are within their intervals', () => {
  for (const { numbers } of claimsOf(studyOf(syntheticRuns()))) {
    for (const { value, interval } of numbers) {
      if (interval === null) continue;
      expect(value).toBeGreaterThanOrEqual(interval[0]);
      expect(value).toBeLessThanOrEqual(interval[1]);
    }
  }
});

it('claims on experts are decided if there are runs with experts', () => {
  const gains: Partial<Record<Variant, number>> = { 'mode-integrated': -0.03, 'moe-reduced': 0.02 };
  const runs = syntheticRuns({
    file: `${ONE}capacities: []\nexpert_variants: [moe, mode-integrated, moe-reduced]\nexperts: {count: 2}\n`,
    gain: ({ spec }) => gains[spec.variant] ?? 0,
  });
  const verdicts = claimsOf(studyOf(runs));
  for (const id of ['mode-better', 'integrated-better']) {
    expect(verdicts.find((one) => one.id === id)?.verdict).toBe('holds');
  }
});

it('diverged and unfinished runs are left out and named', () => {
  const runs = syntheticRuns({ gain: ({ spec }) => (spec.variant === 'random' ? null : 0) });
  const study = studyOf(
    runs.map((run, i) =>
      i === 0 ? { ...run, row: { ...run.row, status: 'running' as const, loss: null } } : run,
    ),
  );
  expect(study.done.length + study.leftOut.length).toBe(runs.length);
  expect(study.leftOut[0]).toMatchObject({ status: 'running', reason: 'still training' });
  expect(study.leftOut.at(-1)).toMatchObject({ status: 'diverged', reason: 'loss is NaN at step 7' });
});
