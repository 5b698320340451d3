/** The numbers beside the verdicts: routed parameters, compute, rates, and what an optimum takes. */
import { describe, expect, it } from 'vitest';
import { routedBlocks } from '../../src/model/config.js';
import type { PlannedRun } from '../../src/plan/run.js';
import { randomStream } from '../../src/random.js';
import { medianInterval } from '../../src/report/claims/speed.js';
import { computeMultiplier, equalTimeDifference, localSlope } from '../../src/report/equal-time.js';
import { rateCurves, rateWarnings } from '../../src/report/rates.js';
import { residualGroups } from '../../src/report/residuals.js';
import { type Curve, studyOf } from '../../src/report/study.js';
import { trainingOf } from '../../src/report/training.js';
import { syntheticRuns } from './synthetic.js';

const SHAPES = [64, 96, 128, 192, 256].flatMap((d) => [4, 8].map((l) => `{d_model: ${d}, n_layers: ${l}}`));
const BUDGETS = `flop_budgets: [1e15, 4e15]\ncapacities: [0.125, 0.5]\nmodel_sizes: [${SHAPES}]\n`;

describe('the joint law', () => {
  const KAPPA: Record<number, number> = { 0.125: 0.1, 0.5: 0.6 };
  const random = randomStream(0, 'joint');
  const runs = syntheticRuns({ file: BUDGETS }).map((run) => {
    const { model } = run.spec;
    const routed = routedBlocks(model).length * (4 * model.d_model ** 2 + 2 * model.d_model * model.d_ff);
    const share = model.routing === null ? 1 : (KAPPA[model.routing.capacity] as number);
    const size = run.row.params_total - (1 - share) * routed;
    const loss =
      (0.4 + 80 / size ** 0.42 + 5e4 / run.row.tokens ** 0.67) * Math.exp(0.0005 * random.normal());
    return { ...run, row: { ...run.row, loss } };
  });
  const study = studyOf(runs);

  it('recovers how many dense parameters a routed one replaces, and that depth does not matter', () => {
    for (const { capacity, value, interval } of study.joint?.kappas ?? []) {
      expect(value).toBeCloseTo(KAPPA[capacity] as number, 1);
      expect(interval?.[0]).toBeLessThan(value);
      expect(interval?.[1]).toBeGreaterThan(value);
    }
    expect(study.joint?.kappas).toHaveLength(2);
    expect(study.joint?.delta).toBeCloseTo(0, 1);
    expect(study.joint?.alpha).toBeCloseTo(0.42, 1);
    expect(study.joint?.rmsError).toBeLessThan(0.001);
  });

  it('has errors by width, depth, rate and kind, whose means are near 0', () => {
    const groups = study.joint === null ? [] : residualGroups(study.joint, study.done);
    expect(new Set(groups.map(({ by }) => by))).toEqual(new Set(['width', 'depth', 'learning rate', 'kind']));
    for (const { mean } of groups) expect(Math.abs(mean)).toBeLessThan(0.001);
  });

  it('needs two budgets', () => {
    expect(studyOf(runs.filter(({ row }) => row.flop_budget === 1e15)).joint).toBeNull();
  });
});

describe('between budgets', () => {
  // The optimal dense loss falls by 0.1 from 1e15 to 4e15; MoD is 0.05 better: worth a factor of 2 in compute.
  const floor = ({ spec }: PlannedRun) =>
    spec.flop_budget === 1e15 ? 0 : 1.5 + 2 - (1.5 + 2 * 4 ** -0.1) - 0.1;
  const runs = syntheticRuns({
    file: 'flop_budgets: [1e15, 4e15]\ncapacities: [0.125]\nseeds: [0, 1]\n',
    gain: (run) => floor(run) + (run.spec.variant === 'mod' ? -0.05 : 0),
    stepMs: (_, dense) => dense / 1e9,
  });
  const study = studyOf(runs);
  const [small] = study.budgets as [(typeof study.budgets)[number]];

  it('a better loss is worth the compute that the slope of the dense losses gives', () => {
    const found = computeMultiplier(study, small);
    expect(found?.value).toBeGreaterThan(1.8);
    expect(found?.value).toBeLessThan(2.2);
    expect(found?.interval?.[0]).toBeGreaterThan(1.5);
    expect(found?.interval?.[1]).toBeLessThan(2.7);
    expect(localSlope(study, small, small.baseline as Curve)?.value).toBeCloseTo(-0.1 / Math.log(4), 2);
  });

  it('at equal time the loss is moved along the slope of the MoD losses', () => {
    const found = equalTimeDifference(study, small);
    const slope = localSlope(study, small, small.mod as Curve)?.value as number;
    expect(found?.share).toBeGreaterThan(1.5); // steps take as long as dense ones, and there are more of them
    const difference = found?.difference as { value: number };
    expect(difference.value).toBeCloseTo(-0.05 - slope * Math.log(found?.share as number), 2);
  });
});

it('an optimum has the tokens, steps and passes that its budget buys', () => {
  const runs = syntheticRuns({ file: 'flop_budgets: [1e15]\ncapacities: []\n' }).map((run) => ({
    ...run,
    row: { ...run.row, data_passes: run.row.tokens / 1e6 },
  }));
  const { baseline } = studyOf(runs).budgets[0] as { baseline: Curve };
  const { tokens, passes, steps, batch } = trainingOf(baseline);
  expect(3 * baseline.optimum.flopsPerPass * batch * steps).toBeCloseTo(1e15, -3);
  expect(tokens).toBeCloseTo(steps * batch * 256, 0);
  expect(passes).toBeCloseTo(tokens / 1e6, 6);
});

describe('learning rates', () => {
  const at = (rates: string, gain: (rate: number, mod: boolean) => number, more = '') =>
    studyOf(
      syntheticRuns({
        file: `flop_budgets: [1e15]\ncapacities: [0.125]\ngrids: [{training: {learning_rate: ${rates}}}${more}]\n`,
        gain: ({ spec }) => gain(spec.training.learning_rate, spec.variant === 'mod'),
      }),
    ).budgets;

  it('that are best between those tried need no warning', () => {
    const budgets = at('[1e-3, 2e-3, 4e-3]', (rate) => (rate === 2e-3 ? 0 : 0.1));
    expect(rateWarnings(budgets)).toEqual([]);
    expect(new Set(rateCurves(budgets).map(({ best }) => best))).toEqual(new Set(['between']));
  });

  it('that are best at an end for one kind are warned of', () => {
    const budgets = at('[1e-3, 2e-3, 4e-3]', (rate, mod) => (mod ? -20 * rate : rate === 2e-3 ? 0 : 0.1));
    expect(rateWarnings(budgets).join()).toMatch(
      /best rate of MoD 12\.5%, every other block is the highest of those tried, 0\.004\.$/,
    );
  });

  it('that are fewer for one kind are warned of', () => {
    const more = ', {capacities: [], training: {learning_rate: [1e-3, 4e-3]}}';
    const budgets = at('2e-3', (rate) => (rate === 2e-3 ? 0 : 0.1), more);
    expect(rateWarnings(budgets).join()).toContain('MoD 12.5%, every other block was tried at 1, dense at 3');
  });
});

it('the interval of a median is between order statistics, from six values on', () => {
  expect(medianInterval([1, 2, 3, 4, 5])).toBeNull();
  expect(medianInterval([6, 1, 5, 2, 4, 3])).toEqual([1, 6]);
  // Of ten, P(fewer than 2 below the median) = 11/1024: the second from each end.
  expect(medianInterval([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])).toEqual([2, 9]);
});
