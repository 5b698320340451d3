/** `mod tune`: the best multiple of each kind from losses with a known optimum, its interval, and optima at an edge. */
import { describe, expect, it } from 'vitest';
import { rateMultiple } from '../../src/config/learning-rate.js';
import { parseSweepFile } from '../../src/config/sweep-file.js';
import { expandSweep } from '../../src/plan/expand.js';
import type { PlannedRun } from '../../src/plan/run.js';
import { tuningSweep } from '../../src/plan/tuning.js';
import { randomStream } from '../../src/random.js';
import { commonRate, infeasibleKinds, type TuningRun, tuneKinds } from '../../src/report/tuning.js';

const FILE = `name: a
flop_budgets: [1e17]
capacities: [0.125]
seeds: [0, 1, 2]
sequence_length: 1024
batch_sequences: 8
data: {text: a, heldout_text: b}
`;
const RATES = ['0.5x', '0.7x', '1x', '1.4x', '2x'];

function plan(rates = RATES, text = FILE): PlannedRun[] {
  const multiples = rates.map((one) => rateMultiple(one) as NonNullable<ReturnType<typeof rateMultiple>>);
  return expandSweep(tuningSweep(parseSweepFile('a.yaml', text), { rates: multiples, budget: null }));
}

const multipleOf = ({ spec }: PlannedRun) => spec.training.learning_rate / 3.5e-3;

/** Runs with these losses; null: diverged. */
function runsWith(loss: (run: PlannedRun) => number | null, planned = plan()): TuningRun[] {
  return planned.map((run) => {
    const found = loss(run);
    const status = found === null ? 'diverged' : 'done';
    return { spec: run.spec, row: { status, loss: found, seed: run.spec.seed } };
  });
}

/** A parabola with its minimum at `best`, an effect of the seed and noise. */
const parabola =
  (best: (variant: string) => number, noise = 0, draw = 0) =>
  (run: PlannedRun) => {
    const { variant, seed } = run.spec;
    const distance = Math.log(multipleOf(run) / best(variant));
    const random = randomStream(draw, 'tuning', run.run_id);
    return 1 + 0.02 * distance ** 2 + 0.01 * seed + noise * random.normal();
  };

describe('tuneKinds', () => {
  it('finds the optimum of each kind, and the interval shrinks to it without noise', () => {
    const kinds = tuneKinds(runsWith(parabola((variant) => (variant === 'baseline' ? 1.2 : 0.8))));
    expect(kinds.map(({ kind, optimum }) => [kind, optimum])).toEqual([
      ['dense', 'between'],
      ['MoD 12.5%, every other block', 'between'],
    ]);
    expect(kinds.map(({ best }) => best)).toEqual([expect.closeTo(1.2, 6), expect.closeTo(0.8, 6)]);
    expect(kinds[0]?.interval).toEqual([expect.closeTo(1.2, 2), expect.closeTo(1.2, 2)]);
    expect(commonRate(kinds)).toEqual({ multiple: 0.98, suitsAll: false });
  });

  it('has intervals that contain the optimum in about 95% of the cases', () => {
    let [inside, bounded] = [0, 0];
    const planned = plan();
    for (let draw = 0; draw < 200; draw++) {
      const [dense] = tuneKinds(
        runsWith(
          parabola(() => 1.1, 0.0015, draw),
          planned,
        ),
      );
      if (dense?.interval === null || dense?.interval === undefined) continue;
      bounded++;
      if (dense.interval[0] <= 1.1 && 1.1 <= dense.interval[1]) inside++;
    }
    expect(bounded).toBeGreaterThan(180);
    // Three standard deviations of 200 cases are 4.6%.
    expect(inside / bounded).toBeGreaterThan(0.9);
    expect(inside / bounded).toBeLessThan(0.997);
  });

  it.each([
    ['lowest', 0.2, 0.5],
    ['highest', 5, 2],
  ])('reports an optimum at the %s rate as such', (place, optimum, best) => {
    for (const kind of tuneKinds(runsWith(parabola(() => optimum)))) {
      expect(kind).toMatchObject({ optimum: place, best, interval: null, loss: null });
    }
  });

  it('reports an edge if the lowest loss is there and the parabola is not certain of its minimum', () => {
    const losses: Record<number, number> = { 0.5: 1.4, 0.7: 1.22, 1: 1.13, 1.4: 1.1, 2: 1.09 };
    const single = plan(RATES, FILE.replace('[0, 1, 2]', '[0]'));
    const [dense] = tuneKinds(
      runsWith((run) => losses[Number(multipleOf(run).toPrecision(2))] ?? null, single),
    );
    expect(dense).toMatchObject({ optimum: 'highest', best: 2, interval: null });
  });

  it('leaves out the rates at which training breaks or diverges', () => {
    const breaking = (run: PlannedRun) => {
      if (multipleOf(run) > 1.5) return null;
      const isDense = run.spec.variant === 'baseline';
      return multipleOf(run) > 1.2 && isDense ? 1.5 : parabola(() => 0.8)(run);
    };
    const [dense, mod] = tuneKinds(runsWith(breaking));
    expect(dense?.rates.map(({ breaks }) => breaks)).toEqual([false, false, false, true, true]);
    expect(mod?.rates.map(({ breaks }) => breaks)).toEqual([false, false, false, false, true]);
    expect([dense?.best, mod?.best]).toEqual([expect.closeTo(0.8, 6), expect.closeTo(0.8, 6)]);
  });

  it('requires three rates; three with single seeds give no interval', () => {
    const two = tuneKinds(
      runsWith(
        parabola(() => 1),
        plan(['0.7x', '1x']),
      ),
    );
    expect(two[0]).toMatchObject({ optimum: 'too-few', best: 1 });
    const single = FILE.replace('[0, 1, 2]', '[0]');
    const three = tuneKinds(
      runsWith(
        parabola(() => 1.1),
        plan(['0.7x', '1x', '1.4x'], single),
      ),
    );
    expect(three[0]).toMatchObject({ optimum: 'between', interval: null });
    expect(three[0]?.best).toBeCloseTo(1.1, 6);
  });
});

it('names the kinds that cannot be trained at the base shape', () => {
  const planned = plan(RATES, FILE.replace('[0.125]', '[0.0001]'));
  const rows = planned.map((run) => ({ spec: run.spec, row: run }));
  expect(infeasibleKinds(rows)).toEqual([
    { kind: 'MoD 0.01%, every other block', reason: 'capacity 0.0001 of 1024 tokens selects none' },
  ]);
});

describe('tuningSweep', () => {
  it('trains the kinds of the file at the base shape and batch, for 20 tokens per parameter', () => {
    const runs = plan();
    expect(runs).toHaveLength(2 * 5 * 3);
    expect(runs[0]?.run_id).toMatch(/-baseline-d256l8-s0-learning_rate-0\.5x$/);
    const [first] = runs as [PlannedRun];
    expect(first.spec).toMatchObject({
      batch_sequences: 128,
      model: { d_model: 256, n_layers: 8, n_heads: 4, d_ff: 1024 },
      training: { parametrization: 'complete', learning_rate: 1.75e-3 },
    });
    expect(first.tokens / first.params_total).toBeGreaterThan(19);
    expect(first.tokens / first.params_total).toBeLessThan(21);
  });

  it('keeps the ids of runs when rates are added', () => {
    const before = new Set(plan().map(({ run_id }) => run_id));
    const after = plan([...RATES, '2.8x']).map(({ run_id }) => run_id);
    expect(after.filter((id) => before.has(id))).toHaveLength(before.size);
  });

  it('rejects a base that is no shape, and several bases', () => {
    const odd = `${FILE}training: {base: {d_model: 96}}\n`;
    expect(() => plan(RATES, odd)).toThrow('training.base: head_size 64 does not divide d_model 96');
    const several = `${FILE}grids: [{}, {training: {base: {d_model: 128}}}]\n`;
    expect(() => plan(RATES, several)).toThrow('several values of training.base');
  });
});
