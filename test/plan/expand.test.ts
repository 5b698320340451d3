/** Plans: run ids, equal runs, points that are not feasible, budgets that are met, grids that rename nothing. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { parseSweepFile } from '../../src/config/sweep-file.js';
import { InputError } from '../../src/errors.js';
import { canonicalJson } from '../../src/files/canonical.js';
import { flopsPerPass } from '../../src/model/flops.js';
import { expandSweep } from '../../src/plan/expand.js';
import type { PlannedRun } from '../../src/plan/run.js';

const DATA = 'data: {text: a, heldout_text: b}\n';
const SMALL = `name: a\nflop_budgets: [1e12]\n${DATA}sequence_length: 64\nbatch_sequences: 4\nmodel_sizes: [{d_model: 64, n_layers: 4}]\n`;
const plan = (text: string) => expandSweep(parseSweepFile('s.yaml', text));
const ids = (text: string) => plan(text).map(({ run_id }) => run_id);

// biome-ignore format: one file a line
it.each([
  // as docs and configs have them
  ['flop_budgets: [6e18]\ncapacities: [0.125]\nbaseline: false\nmodel_sizes: [217M]\nrouters: [learned, random]', ['6e18-mod-c0.125-f2-217M-s0', '6e18-random-c0.125-f2-217M-s0']],
  ['flop_budgets: [1e16]\ngrids: [{seeds: [1], training: {learning_rate: 1e-3}, model_sizes: [{d_model: 256, n_layers: 4}]}]', ['1e16-baseline-d256l4-s1-learning_rate-1e-3']],
  // numbers as the file wrote them
  ['flop_budgets: [6.0e+18]\nmodel_sizes: [44M]\nbaseline: false\ncapacities: [.5]', ['6.0e+18-mod-c0.5-f2-44M-s0']],
  ['flop_budgets: [.3e19]\nmodel_sizes: [44M]\ntraining: {parametrization: complete, learning_rate: [.5x, 1x]}', ['0.3e19-baseline-44M-s0-learning_rate-0.5x', '0.3e19-baseline-44M-s0-learning_rate-1x']],
  // two spellings of one value are one point, under the first
  ['flop_budgets: [.6e19, 6e18]\nmodel_sizes: [44M]\ncapacities: [0.50, .5]\nrouting_frequencies: [2, 2.0]\nseeds: [01, 1]\ntraining: {learning_rate: [1e-3, 0.001]}', ['0.6e19-baseline-44M-s01', '0.6e19-mod-c0.50-f2-44M-s01']],
  ['flop_budgets: [6e18]\nmodel_sizes: [44M]\ngrids: [{seeds: [1]}, {flop_budgets: [.6e19], seeds: [1.0]}]', ['6e18-baseline-44M-s1']],
  // order: budget, variant, size, learning rate, seed
  ['flop_budgets: [1e15, 2e15]\nmodel_sizes: [{d_model: 64, n_layers: 4}]\ncapacities: [0.5]\nseeds: [3, 1]', ['1e15-baseline-d64l4-s3', '1e15-baseline-d64l4-s1', '1e15-mod-c0.5-f2-d64l4-s3', '1e15-mod-c0.5-f2-d64l4-s1', '2e15-baseline-d64l4-s3', '2e15-baseline-d64l4-s1', '2e15-mod-c0.5-f2-d64l4-s3', '2e15-mod-c0.5-f2-d64l4-s1']],
  ['flop_budgets: [1e15]\nmodel_sizes: [{d_model: 64, n_layers: 4}]\nbaseline: false\ncapacities: [0.5]\ngates: [raw, sigmoid]', ['1e15-mod-c0.5-f2-d64l4-s0', '1e15-mod-c0.5-f2-sigmoid-d64l4-s0']],
  // an axis of the top level is named, a single value there is not
  ['flop_budgets: [1e15]\nmodel_sizes: [{d_model: 64, n_layers: 4}]\ntraining: {learning_rate: [1e-3, 3e-3]}', ['1e15-baseline-d64l4-s0-learning_rate-1e-3', '1e15-baseline-d64l4-s0-learning_rate-3e-3']],
  ['flop_budgets: [1e15]\nmodel_sizes: [{d_model: 64, n_layers: 4}]\ntraining: {learning_rate: 1e-3}\ngrids: [{}, {training: {learning_rate: 0.001}}]', ['1e15-baseline-d64l4-s0']],
  // every other key
  ['flop_budgets: [1e15]\nmodel_sizes: [{d_model: 64, n_layers: 4}]\ngrids: [{sequence_length: 1024, tie_embeddings: false, evaluation: {every_steps: 50}, precision: fp32, backend: wasm}]', ['1e15-baseline-d64l4-s0-sequence_length-1024-tie_embeddings-false-every_steps-50-backend-wasm-precision-fp32']],
  // keys of the learned router change no other run
  ['flop_budgets: [1e15]\nmodel_sizes: [{d_model: 64, n_layers: 4}]\ncapacities: [0.5]\nrouters: [learned, random]\ngrids: [{}, {routing: {predictor_hidden: 8}}]', ['1e15-baseline-d64l4-s0', '1e15-mod-c0.5-f2-d64l4-s0', '1e15-random-c0.5-f2-d64l4-s0', '1e15-mod-c0.5-f2-d64l4-s0-predictor_hidden-8']],
  // experts: their keys are named for the runs that they concern, count as experts
  ['flop_budgets: [1e15]\nmodel_sizes: [{d_model: 64, n_layers: 4}]\nbaseline: false\ncapacities: [0.5]\nexpert_variants: [moe, mode-staged, mode-integrated, moe-reduced]', ['1e15-mod-c0.5-f2-d64l4-s0', '1e15-moe-d64l4-s0', '1e15-mode-staged-c0.5-f2-d64l4-s0', '1e15-mode-integrated-d64l4-s0', '1e15-moe-reduced-d64l4-s0']],
  ['flop_budgets: [1e15]\nmodel_sizes: [{d_model: 64, n_layers: 4}]\nexpert_variants: [moe, mode-integrated]\ngrids: [{experts: {count: 16, no_ops: 2, balance_no_ops: false, capacity_factor: 2.0}}]', ['1e15-baseline-d64l4-s0', '1e15-moe-d64l4-s0-experts-16-capacity_factor-2.0', '1e15-mode-integrated-d64l4-s0-experts-16-capacity_factor-2.0-no_ops-2-balance_no_ops-false']],
  ['flop_budgets: [1e15]\nmodel_sizes: [{d_model: 64, n_layers: 4}]\nbaseline: false\nexpert_variants: [moe, moe-reduced]\ngrids: [{}, {experts: {no_ops: 4}}]', ['1e15-moe-d64l4-s0', '1e15-moe-reduced-d64l4-s0', '1e15-moe-reduced-d64l4-s0-no_ops-4']],
  // staged MoDE is routed: its predictor is named where it differs
  ['flop_budgets: [1e15]\nmodel_sizes: [{d_model: 64, n_layers: 4}]\nbaseline: false\ncapacities: [0.5]\nexpert_variants: [mode-staged]\ngrids: [{routing: {predictor_hidden: 8}}]', ['1e15-mod-c0.5-f2-d64l4-s0-predictor_hidden-8', '1e15-mode-staged-c0.5-f2-d64l4-s0-predictor_hidden-8']],
])('the run ids of %j', (text, expected) => {
  expect(ids(`name: a\n${DATA}${text}\n`)).toEqual(expected);
});

it('an id of more than 200 bytes ends in a hash of the keys that do not fit, a shorter one does not', () => {
  const many = (precision: string) =>
    `{sequence_length: 128, batch_sequences: 8, tie_embeddings: false, evaluation: {sequences: 32, every_steps: 10, autoregressive: false}, training: {weight_decay: 0.2, gradient_clip: 2.0, micro_batch_sequences: 1, deterministic: true}, precision: ${precision}}`;
  const of = (...grids: string[]) => ids(`${SMALL}grids: [${grids.join(', ')}]\n`);
  const [first, second] = of(many('fp32'), many('bf16')) as [string, string];
  for (const id of [first, second]) {
    expect(id).toMatch(
      /^1e12-baseline-d64l4-s0-sequence_length-128-batch_sequences-8-tie_embeddings-false-weight_decay-0\.2-.*-[0-9a-f]{12}$/,
    );
    expect(id.length).toBeLessThanOrEqual(200);
  }
  expect(first).not.toBe(second);
  expect(of(many('bf16'))).toEqual([second]); // of the run alone
  const decay = '1e12-baseline-d64l4-s0-weight_decay-0.2';
  const zeros = (length: number) => '0'.repeat(length - decay.length);
  const [longest] = of(`{training: {weight_decay: 0.2${zeros(200)}}}`);
  expect(longest).toBe(`${decay}${zeros(200)}`);
  const [longer] = of(`{training: {weight_decay: 0.2${zeros(201)}}}`);
  expect(longer).toMatch(/^1e12-baseline-d64l4-s0-[0-9a-f]{12}$/);
});

it('capacities that select equally many tokens are one run, under the first, with a note', () => {
  const capacities = 'capacities: [0.125, 0.126, 0.25, 0.13]\nbaseline: false\n';
  const runs = plan(
    `${SMALL}${capacities}grids: [{}, {capacities: [0.127]}, {capacities: [0.127], seeds: [1]}]\n`,
  );
  expect(runs.map(({ run_id, note }) => [run_id, note])).toEqual([
    [
      '1e12-mod-c0.125-f2-d64l4-s0',
      'capacities 0.126, 0.13, 0.127 would select 8 of 64 tokens as well: one run',
    ],
    ['1e12-mod-c0.25-f2-d64l4-s0', null],
    ['1e12-mod-c0.127-f2-d64l4-s1', null],
  ]);
  const [first] = plan(`${SMALL}capacities: [0.125]\nbaseline: false\n`);
  expect(runs[0]?.config_hash).toBe(first?.config_hash);
});

it.each([
  ['1', 20_001, '20,001 points: 20,001 seeds'],
  ['1, 2, 3, 4, 5', 5000, '50,000 points: 5 budgets × 2 settings × 5,000 seeds'],
])('too many points are refused before any is computed: budgets %s, %d seeds', (budgets, seeds, found) => {
  const list = Array.from({ length: seeds }, (_, i) => i).join();
  const text = `name: a\nflop_budgets: [${budgets}]\n${DATA}seeds: [${list}]\nmodel_sizes: [44M]\ncapacities: [${seeds > 9999 ? '' : 0.5}]\n`;
  expect(() => plan(text)).toThrow(
    new InputError(
      `s.yaml:2:1: found ${found}; allowed: at most 20,000 in a sweep; remove values, or divide the file into several sweeps`,
    ),
  );
});

it('runs on different data have different ids', () => {
  const [first, second] = ids(`${SMALL}grids: [{}, {data: {text: c, heldout_text: b}}]\n`);
  expect(first).toBe('1e12-baseline-d64l4-s0');
  expect(second).toMatch(/^1e12-baseline-d64l4-s0-data-[0-9a-f]{8}$/);
});

it('a shape that two names have is one run', () => {
  const twice = 'model_sizes: [217M, {d_model: 896, n_layers: 18}]\n';
  expect(ids(`name: a\nflop_budgets: [6e18]\n${DATA}${twice}`)).toEqual(['6e18-baseline-217M-s0']);
});

it('resolves every setting of a run', () => {
  const [run] = plan(
    `${SMALL}baseline: false\ncapacities: [0.125]\nrouters: [random]\ntraining: {weight_decay: 0}\n`,
  );
  expect(run).toMatchObject({
    status: 'pending',
    note: null,
    backend: 'auto',
    spec: {
      variant: 'random',
      flop_budget: 1e12,
      model: {
        vocab_size: 256,
        d_model: 64,
        n_layers: 4,
        n_heads: 1,
        d_ff: 256,
        sequence_length: 64,
        experts: null,
      },
      batch_sequences: 4,
      seed: 0,
      training: { learning_rate: 2e-3, weight_decay: 0, gradient_clip: 1 },
      precision: 'auto',
    },
  });
  const { spec, flops_per_pass, train_flops, tokens } = run as NonNullable<typeof run>;
  expect(spec.model.routing).toMatchObject({
    frequency: 2,
    capacity: 0.125,
    router: 'random',
    predictor_hidden: 0,
  });
  expect(spec.steps).toBe(Math.round(1e12 / (4 * 3 * flops_per_pass)));
  expect({ train_flops, tokens }).toEqual({
    train_flops: spec.steps * 12 * flops_per_pass,
    tokens: spec.steps * 256,
  });
});

it.each([
  [384, 2e-3],
  [768, 1e-3],
])('learning_rate: auto at d_model %i is %d', (width, rate) => {
  const [run] = plan(
    `name: a\nflop_budgets: [1e18]\n${DATA}model_sizes: [{d_model: ${width}, n_layers: 2}]\n`,
  );
  expect(run?.spec.training.learning_rate).toBe(rate);
});

it.each([
  ['capacities: [0.001]', 'capacity 0.001 of 64 tokens selects none'],
  [
    'capacities: [0.5]\nrouting_frequencies: [5]',
    'routing frequency 5 is above the 4 layers: no block would be routed',
  ],
  [
    'grids: [{}, {flop_budgets: [1e9]}]',
    /^the budget allows 3 steps of 4 sequences of 64 tokens, at least 10 are required$/,
  ],
  ['capacities: [0.001]\nrouting_frequencies: [5]', /^routing frequency .*; capacity 0.001 .* none$/],
])('plans a point that cannot be trained as skipped: %j', (text, note) => {
  const [first, second] = plan(`${SMALL}${text}\n`);
  expect(first?.status).toBe('pending');
  expect(second).toMatchObject({ status: 'skipped', note: expect.stringMatching(note) });
});

it('ten steps are enough, k = 1 is', () => {
  const perStep = 12 * (plan(SMALL)[0]?.flops_per_pass ?? 0);
  const steps = (n: number) => plan(SMALL.replace('[1e12]', `[${n * perStep}, 1e12]`))[0];
  expect(steps(9)).toMatchObject({ status: 'skipped', spec: { steps: 9 } });
  expect(steps(10)).toMatchObject({ status: 'pending', spec: { steps: 10 } });
  expect(plan(`${SMALL}capacities: [0.008]\n`)[1]).toMatchObject({ status: 'pending' }); // floor(0.512 + 0.5)
});

it('a file without a feasible point is an error that gives the reasons', () => {
  const text = SMALL.replace('[1e12]', '[1]');
  expect(() => plan(text)).toThrow(InputError);
  expect(() => plan(text)).toThrow(
    's.yaml:2:1: flop_budgets: no point of this sweep can be trained: the budget allows 0 steps of 4 sequences of 64 tokens, at least 10 are required',
  );
});

/** A grid over a few of the keys, in YAML's flow form. */
const some = <T>(...values: T[]) => fc.subarray(values, { minLength: 1 });
const grid = fc
  .record({
    flop_budgets: some('1e12', '2e12', '1.5e12'),
    capacities: some('0.125', '0.5', '0.001'),
    routing_frequencies: some('1', '2', '7'),
    routers: some('learned', 'random'),
    gates: some('raw', 'sigmoid'),
    model_sizes: some(
      '{d_model: 64, n_layers: 4}',
      '{d_model: 96, n_layers: 2}',
      '{d_model: 64, n_layers: 4, d_ff: 64}',
    ),
    seeds: some('0', '1'),
    rates: some('auto', '1e-3', '0.003'),
    hidden: fc.constantFrom('64', '16'),
  })
  .map(({ rates, hidden, ...lists }) => {
    const keys = Object.entries(lists).map(([key, values]) => `${key}: [${values.join(', ')}]`);
    return `{${keys.join(', ')}, training: {learning_rate: [${rates.join(', ')}]}, routing: {predictor_hidden: ${hidden}}}`;
  });
const withGrids = (grids: string[]) => `${SMALL}grids: [${grids.join(', ')}]\n`;

it('run ids are unique, and equal runs appear once', () => {
  fc.assert(
    fc.property(fc.array(grid, { minLength: 1, maxLength: 3 }), (grids) => {
      const runs = plan(withGrids(grids));
      expect(new Set(runs.map(({ run_id }) => run_id)).size).toBe(runs.length);
      expect(new Set(runs.map(({ config_hash }) => config_hash)).size).toBe(runs.length);
    }),
    { numRuns: 30 },
  );
});

it('a grid written twice adds nothing, another one after it renames nothing', () => {
  fc.assert(
    fc.property(grid, grid, (first, second) => {
      const before = plan(withGrids([first]));
      expect(plan(withGrids([first, first]))).toEqual(before);
      expect(plan(withGrids([first, second])).slice(0, before.length)).toEqual(before);
    }),
    { numRuns: 20 },
  );
});

it('every budget is met to half a step, and to 1% where there are fifty', () => {
  fc.assert(
    fc.property(fc.double({ min: 9, max: 20, noNaN: true }), grid, (exponent, one) => {
      const budget = 10 ** exponent;
      const text = withGrids([one]).replace(
        /flop_budgets: \[[^\]]*\], /,
        `flop_budgets: [${budget}, 1e20], `,
      );
      for (const { spec, train_flops, flops_per_pass } of plan(text)) {
        const off = Math.abs(train_flops - spec.flop_budget);
        expect(off).toBeLessThanOrEqual(0.5000001 * spec.batch_sequences * 3 * flops_per_pass);
        if (spec.steps >= 51) expect(off / spec.flop_budget).toBeLessThan(0.01);
      }
    }),
    { numRuns: 20 },
  );
});

it('canonical JSON does not depend on the order of keys', () => {
  expect(canonicalJson({ b: [1, { d: 2, c: null }], a: 'x' })).toBe('{"a":"x","b":[1,{"c":null,"d":2}]}');
});

it('of experts: as many no-ops as experts by default, moe-reduced at the FLOPs of mode-integrated', () => {
  const runs = plan(`${SMALL}expert_variants: [moe, mode-integrated, moe-reduced]\nexperts: {count: 4}\n`);
  const [dense, moe, integrated, reduced] = runs as [PlannedRun, PlannedRun, PlannedRun, PlannedRun];
  expect(runs.map(({ spec }) => spec.model.experts)).toEqual([
    null,
    ...[
      [0, 1.25],
      [4, 1.25],
      [0, 0.625],
    ].map(([no_ops, capacity_factor]) => ({
      count: 4,
      no_ops,
      capacity_factor,
      balance_loss_weight: 0.01,
      balance_no_ops: true,
    })),
  ]);
  const mlp = (run: PlannedRun) => flopsPerPass(run.spec.model).mlp;
  expect(mlp(reduced)).toBe(mlp(integrated));
  expect(mlp(moe)).toBe(1.25 * mlp(dense));
  expect(dense.params_active).toBeUndefined();
  // Of four experts a token uses one; a router is 4·D a block.
  expect(moe.params_active).toBe(dense.params_total + 4 * 4 * 64);
  expect(moe.params_total - (moe.params_active as number)).toBe(4 * 3 * 2 * 64 * 256);
});

it('matches the FLOPs per pass of experts, too', () => {
  const [dense, moe] = plan(
    `${SMALL.replace(/model_sizes.*/, 'model_sizes: {match_flops: {d_model: 64, n_layers: 8}}')}expert_variants: [moe]\nexperts: {capacity_factor: 2}\n`,
  ) as [PlannedRun, PlannedRun];
  expect(moe.spec.model.n_layers).toBeLessThan(dense.spec.model.n_layers);
  expect(Math.abs(Math.log(moe.flops_per_pass / dense.flops_per_pass))).toBeLessThan(0.1);
});
