/** The runs of a curve, the basis of its optimum, and the format of numbers. */
import { describe, expect, it } from 'vitest';
import { cautionsOf } from '../../src/report/cautions.js';
import { figuresOf } from '../../src/report/figures/all.js';
import { lossFrame } from '../../src/report/figures/figure.js';
import { settingsOf } from '../../src/report/settings.js';
import { studyOf } from '../../src/report/study.js';
import {
  budgetName,
  shortCount,
  signedLoss,
  signedPercent,
  significant,
  withInterval,
} from '../../src/report/words.js';
import type { LoadedRun } from '../../src/results/load.js';
import { optimalFlops, plannedRuns, syntheticRuns } from './synthetic.js';

const labels = (file: string) => [
  ...new Set(settingsOf(plannedRuns(file).map(({ spec }) => spec)).map(({ label }) => label)),
];
const SIZES = 'model_sizes: [{d_model: 64, n_layers: 4}, {d_model: 448, n_layers: 4}]\n';

describe('a setting', () => {
  it('is named by its routing', () => {
    const file = `flop_budgets: [1e15]\ncapacities: [0.125]\nrouting_frequencies: [1, 2, 3]\nrouters: [learned, random]\ngates: [raw, sigmoid]\n${SIZES}`;
    expect(labels(file)).toEqual([
      'dense',
      'MoD 12.5%, every block',
      'MoD 12.5%, every block, sigmoid gate',
      'random 12.5%, every block',
      'random 12.5%, every block, sigmoid gate',
      'MoD 12.5%, every other block',
      'MoD 12.5%, every other block, sigmoid gate',
      'random 12.5%, every other block',
      'random 12.5%, every other block, sigmoid gate',
      'MoD 12.5%, every 3rd block',
      'MoD 12.5%, every 3rd block, sigmoid gate',
      'random 12.5%, every 3rd block',
      'random 12.5%, every 3rd block, sigmoid gate',
    ]);
  });

  it('is one for all widths with the automatic learning rate, and for all seeds', () => {
    expect(labels(`flop_budgets: [1e15]\nseeds: [0, 1]\n${SIZES}`)).toEqual(['dense']);
  });

  it('differs for another learning rate or auxiliary loss at the same budget', () => {
    expect(labels(`flop_budgets: [1e15]\ntraining: {learning_rate: [1e-3, 3e-3]}\n${SIZES}`)).toEqual([
      'dense, learning rate 0.001',
      'dense, learning rate 0.003',
    ]);
    const grids = 'grids: [{}, {routing: {aux_loss_weight: 0.01}}]';
    expect(labels(`flop_budgets: [1e15]\ncapacities: [0.5]\n${grids}\n${SIZES}`)).toEqual([
      'dense',
      'MoD 50%, every other block',
      'MoD 50%, every other block, auxiliary loss 0.01',
    ]);
  });

  it('stays one if the batch grows with the budget', () => {
    const grids = 'grids: [{flop_budgets: [1e15]}, {flop_budgets: [1e16], batch_sequences: 64}]';
    expect(labels(`${grids}\n${SIZES}`)).toEqual(['dense']);
  });
});

it('finds the optimum behind the losses', () => {
  const file = 'flop_budgets: [1e15]\ncapacities: [0.125]\n';
  const { budgets } = studyOf(syntheticRuns({ file, noise: 0 }));
  const [baseline, mod] = [budgets[0]?.baseline, budgets[0]?.mod];
  const known = optimalFlops(plannedRuns(file), 1e15);
  for (const curve of [baseline, mod]) expect((curve?.optimum.flopsPerPass ?? 0) / known).toBeCloseTo(1, 6);
  expect(baseline?.optimum.from).toBe('fit');
  // These losses are quadratic in the FLOPs per pass, and are fitted over the parameters.
  expect((mod?.optimum.loss ?? 0) - (baseline?.optimum.loss ?? 0)).toBeCloseTo(-0.03, 2);
});

describe('deeper and wider shapes of one size', () => {
  // Depth over width from a factor of 1.5 apart, at two widths of about equal FLOPs per pass.
  const shapes = [
    [64, 4],
    [96, 4],
    [128, 4],
    [192, 4],
    [64, 8],
    [96, 8],
    [128, 8],
    [192, 8],
  ].map(([d_model, n_layers]) => `{d_model: ${d_model}, n_layers: ${n_layers}}`);
  const file = `flop_budgets: [1e15]\ncapacities: []\nseeds: [0, 1]\nmodel_sizes: [${shapes}]\n`;
  const shifted = (by: number) =>
    syntheticRuns({ file }).map((run) => {
      const loss = (run.row.loss as number) + (run.row.n_layers === 8 ? by : 0);
      return { ...run, row: { ...run.row, loss } };
    });
  const fitOf = (of: LoadedRun[]) => studyOf(of).budgets[0]?.baseline?.fit;

  it('are all fitted, by a surface whose lower envelope is at the better ones', () => {
    const [deep, wide] = [fitOf(shifted(-0.03)), fitOf(shifted(0.03))];
    expect(deep).toMatchObject({ kind: 'size and depth', runs: 16, depthEdge: 'deepest' });
    expect(wide).toMatchObject({ kind: 'size and depth', runs: 16, depthEdge: 'widest' });
    expect((deep?.minimum?.loss ?? 0) - (wide?.minimum?.loss ?? 0)).toBeCloseTo(-0.03, 2);
  });

  it('that are not of one size are one family, fitted over the size alone', () => {
    const family = file.replace(
      /model_sizes: .*/,
      'model_sizes: [{d_model: 64, n_layers: 4}, {d_model: 96, n_layers: 7}, {d_model: 160, n_layers: 7}, {d_model: 256, n_layers: 7}]',
    );
    expect(fitOf(syntheticRuns({ file: family }))?.kind).toBe('size');
  });
});

it('an optimum outside the sizes is not known, is noted as such, and gets no ring', () => {
  const study = studyOf(
    syntheticRuns({ file: 'flop_budgets: [1e15]\ncapacities: [0.125]\n', flopsFactor: () => 30 }),
  );
  const [budget] = study.budgets;
  expect(budget?.baseline?.fit.state).toBe('above');
  expect(budget?.baseline?.optimum).toMatchObject({ from: 'run', lossInterval: null });
  const [figure] = figuresOf(study).drawn;
  expect(figure?.notes).toMatch(
    /^Not known, and without a ring: the optimum of dense is above its largest size, .*; the optimum of MoD 12\.5%/,
  );
  expect(figure?.svg).not.toContain('optimum of');
});

it('a run that did not train is drawn in a strip above the frame and does not compress the others', () => {
  const runs = syntheticRuns({ file: 'flop_budgets: [1e15]\ncapacities: [0.125]\n' });
  const losses = runs.map(({ row }) => row.loss as number);
  const [first, ...rest] = runs as [LoadedRun, ...LoadedRun[]];
  const broken = { ...first, row: { ...first.row, loss: 20 } };
  const [figure] = figuresOf(studyOf([broken, ...rest])).drawn;
  expect(figure?.svg).toContain('far above: 1 run, 20.00');
  expect(figure?.svg).not.toMatch(/>(1\d|20)(\.0+)?</); // no tick near its loss
  expect(lossFrame(losses).beyond).toEqual([]);
});

it('a learning rate without seeds is the baseline if it is better than the seeds of another allow', () => {
  const sizes =
    'model_sizes: [{d_model: 64, n_layers: 4}, {d_model: 96, n_layers: 4}, {d_model: 128, n_layers: 4}]';
  const grids = 'grids: [{seeds: [0, 1, 2]}, {training: {learning_rate: 4e-3}}]';
  const file = `flop_budgets: [1e15]\ncapacities: []\n${sizes}\n${grids}\n`;
  const best = (by: number) => {
    const gain = ({ spec }: { spec: { training: { learning_rate: unknown } } }) =>
      spec.training.learning_rate === 4e-3 ? by : 0;
    const [budget] = studyOf(syntheticRuns({ file, gain, noise: 0.004 })).budgets;
    return budget?.baseline?.setting.others;
  };
  expect(best(-0.2)).toBe('learning rate 0.004');
  expect(best(0.05)).toBe('learning rate auto');
});

it('draws each training setting with a curve, and names those tried at one size', () => {
  const sizes =
    'model_sizes: [{d_model: 64, n_layers: 4}, {d_model: 96, n_layers: 4}, {d_model: 128, n_layers: 4}]';
  const rates =
    '{training: {learning_rate: [1e-3, 4e-3]}}, {training: {learning_rate: 8e-3}, model_sizes: [{d_model: 64, n_layers: 4}]}';
  const file = `flop_budgets: [1e15]\ncapacities: []\n${sizes}\ngrids: [${rates}]\n`;
  const gain = ({ spec }: { spec: { training: { learning_rate: number } } }) =>
    spec.training.learning_rate === 4e-3 ? -0.2 : 0;
  const figures = figuresOf(studyOf(syntheticRuns({ file, gain }))).drawn.filter(({ id }) =>
    id.startsWith('isoflop'),
  );
  expect(figures.map(({ id }) => id)).toEqual(['isoflop-1e15', 'isoflop-1e15-learning-rate-0.001']);
  expect(figures[0]?.title).toContain('learning rate 0.004');
  expect(figures[0]?.notes).toMatch(/not drawn: dense, learning rate 0\.008 /);
});

it('a learning curve ends in a mean over as many steps as elsewhere, not in the last step', () => {
  const file = 'flop_budgets: [1e15]\ncapacities: [0.125]\n';
  // 97 steps in groups of three leave one step over.
  const runs = syntheticRuns({ file }).map((run) => {
    const [first] = run.steps() as [ReturnType<typeof run.steps>[number]];
    const row = { ...run.row, steps: 97 };
    const lossOf = (step: number) => (run.row.variant === 'mod' && step === 97 ? 0 : 2);
    const steps = Array.from({ length: 97 }, (_, i) => ({ ...first, step: i + 1, loss: lossOf(i + 1) }));
    return { ...run, row, steps: () => steps };
  });
  const figure = figuresOf(studyOf(runs)).drawn.find(({ id }) => id === 'learning-curves');
  expect(figure?.reading).toMatch(/at 0\.0000 nats .* at the end at −(0\.6667|1\.0000),/);
});

it('draws figure 7 if there are runs with experts, and excludes them from figure 3', () => {
  const variants = 'expert_variants: [moe, mode-staged, mode-integrated, moe-reduced]\nexperts: {count: 2}\n';
  const runs = syntheticRuns({ file: `flop_budgets: [1e15]\ncapacities: [0.125]\n${variants}` });
  const loaded = runs.map((run) => {
    const shares = { expert_load: '0.4000 0.3500', expert_dropped: 0.05, expert_no_op: 0.25 };
    return run.spec.variant === 'mode-integrated' ? { ...run, row: { ...run.row, ...shares } } : run;
  });
  const { drawn, missing } = figuresOf(studyOf(loaded));
  const tableOf = (id: string) => drawn.find((figure) => figure.id === id)?.table;
  const rowsOf = (id: string) => JSON.stringify(tableOf(id)?.rows);
  for (const label of ['MoE', 'staged MoDE 12.5%', 'integrated MoDE', 'MoE of reduced capacity']) {
    expect(rowsOf('experts-1e15')).toContain(`"${label}"`);
    expect(rowsOf('isoflop-1e15')).not.toContain(`"${label}"`);
  }
  const integrated = tableOf('experts-1e15')?.rows.find(([, label]) => label === 'integrated MoDE');
  expect(integrated?.slice(-3)).toEqual(['0.4000 0.3500', 0.05, 0.25]);
  expect(missing.map(({ title }) => title)).not.toContain('Mixture of Depths and Experts');
});

it('draws the step times of one machine, settings without their learning rates', () => {
  const rates = '{training: {learning_rate: 1e-3}}, {training: {learning_rate: 4e-3}}';
  const file = `flop_budgets: [1e15]\ncapacities: [0.125]\n${SIZES}grids: [${rates}]\n`;
  const [first, ...rest] = syntheticRuns({ file }) as [LoadedRun, ...LoadedRun[]];
  const slow = { ...first, row: { ...first.row, device: 'another', step_ms: 1e6 } };
  const { drawn } = figuresOf(studyOf([slow, ...rest]));
  const figure = drawn.find(({ id }) => id === 'step-time');
  const count = (variant: string) => rest.filter(({ row }) => row.variant === variant).length;
  expect(figure?.reading).toBe(
    `Step time grows as FLOPs to the power 1 in ${count('baseline')} dense runs, 1 in ${count('mod')} MoD runs on a processor.`,
  );
  expect(JSON.stringify(figure?.table.rows)).not.toContain(slow.row.run_id);
  expect(figure?.svg).toContain('MoD 12.5%<');
  expect(figure?.svg).not.toContain('learning rate 0.004<');
});

it('an optimum without an interval is shown without one, and gives none to the law across budgets', () => {
  const sizes = [64, 96, 128].map((width) => `{d_model: ${width}, n_layers: 4}`);
  const study = studyOf(
    syntheticRuns({
      file: `flop_budgets: [1e15, 1e16]\ncapacities: []\nmodel_sizes: [${sizes}]\n`,
      noise: 0,
    }),
  );
  expect(study.scalings[0]?.params?.exponentInterval).toBeNull();
  const figure = figuresOf(study).drawn.find(({ id }) => id === 'scaling-params');
  expect(figure?.table.rows.map((row) => row.slice(-2))).toEqual([
    [null, null],
    [null, null],
  ]);
});

it('warns of runs that are not comparable, and of missed budgets', () => {
  const runs = syntheticRuns();
  expect(cautionsOf(studyOf(runs)).filter((one) => !one.includes('budget'))).toEqual([]);
  const [first, ...rest] = runs as [LoadedRun, ...LoadedRun[]];
  const other = {
    ...first,
    row: { ...first.row, train_flops: 1.05 * first.row.flop_budget },
    spec: { ...first.spec, model: { ...first.spec.model, vocab_size: 512 } },
  };
  expect(cautionsOf(studyOf([other, ...rest])).join('\n')).toMatch(
    /in their vocabulary \(512; 256\): .*\n\d+ runs? missed the budget by more than 1%, by 5% at most/,
  );
});

it('the same runs give the same report', () => {
  const numbers = () => JSON.stringify(studyOf(syntheticRuns()).budgets);
  expect(numbers()).toBe(numbers());
});

it.each([
  [budgetName(6e18), '6e18'],
  [budgetName(1.1e11), '1.1e11'],
  [signedLoss(-0.01234), '−0.0123'],
  [signedLoss(0.00001), '0.0000'],
  [signedLoss(-0.00001), '0.0000'],
  [signedPercent(0.00234), '+0.23%'],
  [significant(1234567), '1.23e6'],
  [significant(0.5621), '0.562'],
  [shortCount(12_345_678), '12.3M'],
  [shortCount(1.5e9), '1.5B'],
  [withInterval(1.624, [1.48, 1.77], significant), '1.62 [1.48, 1.77]'],
])('formats %s', (written, expected) => expect(written).toBe(expected));
