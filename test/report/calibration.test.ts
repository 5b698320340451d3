/** Verdicts and intervals have their nominal error rates, by simulating hundreds of studies through the report's own code. */
import { expect, it } from 'vitest';
import type { PlannedRun } from '../../src/plan/run.js';
import { randomStream } from '../../src/random.js';
import { claimsOf } from '../../src/report/claims/all.js';
import { t95 } from '../../src/report/distributions.js';
import { studyOf } from '../../src/report/study.js';
import type { LoadedRun } from '../../src/results/load.js';
import { planRow } from '../../src/results/run-folder.js';
import { plannedRuns } from './synthetic.js';

/** Studies of each layout, half of them without and half with a difference. */
const STUDIES = 500;

interface Layout {
  name: string;
  /** Keys of the sweep file. */
  file: string;
  /** Nats per squared unit of ln(depth / width), and the place of its optimum; 0: depth does not matter. */
  depth?: { bend: number; at: number };
  /** Two depths only: what is between them was not trained, so that the optimum is on one of both. */
  ladders?: true;
  /** Standard deviation of a run over the layout's noise; 1 by default. */
  deviation?: (place: Place) => number;
  /** Standard deviation of the common effect of a seed, over the noise. */
  seedEffect?: number;
  /** The layout gives no interval. */
  unknown?: true;
}

/** Where a run is: x from −1, the smallest size, to 1, the largest; z, ln of depth over width. */
interface Place {
  x: number;
  z: number;
  mod: boolean;
  seed: number;
}

const sizes = (...widths: number[]) =>
  `model_sizes: [${widths.map((d) => `{d_model: ${d}, n_layers: 4}`)}]\n`;
const shapes = (...all: string[]) =>
  `[${all.map((name) => name.split('x')).map(([d, l]) => `{d_model: ${d}, n_layers: ${l}}`)}]`;
const seeds = (n: number) => `seeds: [${Array.from({ length: n }, (_, i) => i)}]\n`;
const SEVEN = [64, 80, 96, 128, 160, 192, 256] as const;
const FIVE = [64, 96, 128, 192, 256] as const;
const FOUR = [64, 96, 160, 256] as const;
const GRIDS = `grids: [{model_sizes: ${shapes('192x4', '192x6', '192x8', '192x12', '256x6', '256x8', '256x12', '320x6', '320x8')}}, {baseline: false, capacities: [0.125], model_sizes: ${shapes('192x6', '192x12', '256x6', '256x8', '256x12', '256x16', '320x6', '320x8', '320x12', '384x6', '384x8')}}]\n`;
const MIXED = `model_sizes: ${shapes('96x4', '128x4', '192x4', '256x4', '64x8', '96x8', '128x8', '192x8')}\n`;

const LAYOUTS: Layout[] = [
  { name: '3 x 1', file: sizes(64, 128, 256) + seeds(1), unknown: true },
  { name: '3 x 2', file: sizes(64, 128, 256) + seeds(2) },
  { name: '4 x 1', file: sizes(...FOUR) + seeds(1) },
  { name: '5 x 1', file: sizes(...FIVE) + seeds(1) },
  { name: '7 x 1', file: sizes(...SEVEN) + seeds(1) },
  { name: '4 x 2', file: sizes(...FOUR) + seeds(2) },
  { name: '5 x 3', file: sizes(...FIVE) + seeds(3) },
  { name: "the study's, 9 and 11 x 3", file: GRIDS + seeds(3), depth: { bend: 0.03, at: Math.log(8 / 256) } },
  {
    name: 'two depths, 8 x 1',
    file: MIXED + seeds(1),
    depth: { bend: 0.03, at: Math.log(8 / 128) },
    ladders: true,
  },
  {
    name: 'two depths, 8 x 2',
    file: MIXED + seeds(2),
    depth: { bend: 0.03, at: Math.log(8 / 128) },
    ladders: true,
  },
  {
    name: 'MoD 3 times as noisy, 5 x 3',
    file: sizes(...FIVE) + seeds(3),
    deviation: ({ mod }) => (mod ? 2.4 : 0.8),
  },
  { name: 'noise by size, 5 x 3', file: sizes(...FIVE) + seeds(3), deviation: ({ x }) => 2 ** x },
  { name: 'one seed effect, 4 x 2', file: sizes(...FOUR) + seeds(2), seedEffect: 2 },
  { name: 'one seed effect, 5 x 3', file: sizes(...FIVE) + seeds(3), seedEffect: 2 },
];

/** Nats by which the smallest and largest sizes are worse, the noise of a run, and the loss of the optimum. */
const [BEND, NOISE, FLOOR] = [0.05, 0.005, 1.5];

interface Design {
  runs: LoadedRun[];
  places: Place[];
  /** ln of parameters at x = −1, and the length of a unit of x. */
  from: number;
  unit: number;
  layout: Layout;
}

function designOf(layout: Layout): Design {
  const capacity = layout.file.includes('grids') ? 'capacities: []' : 'capacities: [0.125]';
  const plan = plannedRuns(`flop_budgets: [1e15]\n${capacity}\n${layout.file}`);
  const logs = plan.map(({ params_total }) => Math.log(params_total));
  const [low, high] = [Math.min(...logs), Math.max(...logs)];
  const unit = (high - low) / 2;
  const places = plan.map(({ spec, params_total }) => ({
    x: (Math.log(params_total) - low) / unit - 1,
    z: Math.log(spec.model.n_layers / spec.model.d_model),
    mod: spec.variant === 'mod',
    seed: spec.seed,
  }));
  return { runs: plan.map(loaded), places, from: low, unit, layout };
}

function loaded(run: PlannedRun): LoadedRun {
  const row = { ...planRow(run), status: 'done' as const, loss: 0, device: 'one', backend: 'wasm' as const };
  return { sweep: 'made', row, spec: run.spec, evaluations: [], analysis: null, steps: () => [] };
}

/** The expected loss, without a gain. */
const truth = ({ layout: { depth } }: Design, { x, z }: Pick<Place, 'x' | 'z'>) =>
  FLOOR + BEND * x * x + (depth === undefined ? 0 : depth.bend * (z - depth.at) ** 2);

function lossesOf(design: Design, gain: number, study: number): number[] {
  const { layout, places } = design;
  const random = randomStream(34, 'calibration', layout.name, gain, study);
  const effects = [0, 1, 2].map(() => (layout.seedEffect ?? 0) * NOISE * random.normal());
  return places.map((place) => {
    const deviation = NOISE * (layout.deviation?.(place) ?? 1);
    return (
      truth(design, place) +
      (place.mod ? gain : 0) +
      (effects[place.seed] as number) +
      deviation * random.normal()
    );
  });
}

/** The optimum of the truth for dense models: the best of the shapes between those trained, which triangles of them cover. */
function optimumOf(design: Design): { x: number; loss: number } {
  if (design.layout.depth === undefined) return { x: 0, loss: FLOOR };
  const dense = design.places.filter(({ mod, seed }) => !mod && seed === 0);
  const depthOf = (place: Place) => (design.runs[design.places.indexOf(place)] as LoadedRun).row.n_layers;
  const between = design.layout.ladders === true ? 200 : 24;
  let best = { x: 0, loss: Number.POSITIVE_INFINITY };
  const visit = (corners: readonly Place[], shares: readonly number[]) => {
    const mix = (key: 'x' | 'z') => sum(corners.map((corner, i) => (shares[i] as number) * corner[key]));
    const place = { x: mix('x'), z: mix('z') };
    const loss = truth(design, place);
    if (loss < best.loss) best = { x: place.x, loss };
  };
  for (const a of dense) {
    for (const b of dense) {
      if (design.layout.ladders === true) {
        if (depthOf(a) !== depthOf(b)) continue;
        for (let i = 0; i <= between; i++) visit([a, b], [i / between, 1 - i / between]);
        continue;
      }
      for (const c of dense) {
        for (let i = 0; i <= between; i++) {
          for (let j = 0; j <= between - i; j++) {
            visit([a, b, c], [i / between, j / between, 1 - (i + j) / between]);
          }
        }
      }
    }
  }
  return best;
}

/** The t test of a gain by the true model: its terms, its relative variances (if weighted), and its seed effects, if any. */
function reference(
  design: Design,
  weighted = true,
): (losses: readonly number[]) => { decides: boolean; width: number } {
  const { layout, places } = design;
  const terms = ({ x, z }: Place) => (layout.depth === undefined ? [1, x, x * x] : [1, x, x * x, z, z * z]);
  const count = terms(places[0] as Place).length;
  const zeros = new Array<number>(count).fill(0);
  const seedsOf =
    layout.seedEffect === undefined ? [] : [...new Set(places.map(({ seed }) => seed))].slice(1);
  const rows = places.map((place) => [
    ...(place.mod ? zeros : terms(place)),
    ...(place.mod ? terms(place) : zeros),
    ...seedsOf.map((seed) => Number(place.seed === seed)),
  ]);
  const weights = places.map((place) => (weighted ? (layout.deviation?.(place) ?? 1) ** -2 : 1));
  const at = terms({ ...optimumPlace(design), mod: false, seed: 0 });
  const contrast = [...at.map((one) => -one), ...at, ...seedsOf.map(() => 0)];
  const { solve, independent } = normalEquations(rows, weights);
  const direction = solve(contrast);
  const share = sum(contrast.map((one, i) => one * (direction[i] as number)));
  const freedom = rows.length - independent;
  return (losses) => {
    const right = contrast.map((_, i) =>
      sum(rows.map((row, r) => (weights[r] as number) * (row[i] as number) * (losses[r] as number))),
    );
    const beta = solve(right);
    const squares = sum(
      rows.map((row, r) => {
        const fitted = sum(row.map((one, i) => one * (beta[i] as number)));
        return (weights[r] as number) * ((losses[r] as number) - fitted) ** 2;
      }),
    );
    const half = t95(freedom) * Math.sqrt((squares / freedom) * share);
    const value = sum(contrast.map((one, i) => one * (beta[i] as number)));
    return { decides: Math.abs(value) > half, width: 2 * half };
  };
}

const sum = (values: readonly number[]) => values.reduce((total, one) => total + one, 0);

/** Any shape at the optimum: of a parabola x = 0, of a surface its centre. */
const optimumPlace = ({ layout: { depth } }: Design) => ({ x: 0, z: depth?.at ?? 0 });

/** Solves (Xᵀ·W·X)·b = r by Gauss and Jordan's elimination; a column that others determine gets the coefficient 0. */
function normalEquations(rows: readonly (readonly number[])[], weights: readonly number[]) {
  const n = rows[0]?.length ?? 0;
  const entry = (i: number, j: number) =>
    sum(rows.map((row, r) => (weights[r] as number) * (row[i] as number) * (row[j] as number)));
  const matrix = Array.from({ length: n }, (_, i) => [
    ...Array.from({ length: n }, (_, j) => entry(i, j)),
    ...Array.from({ length: n }, (_, j) => Number(i === j)),
  ]);
  const used: number[] = [];
  for (let i = 0; i < n; i++) {
    const line = matrix[i] as number[];
    const pivot = line[i] as number;
    if (Math.abs(pivot) < 1e-9) continue;
    used.push(i);
    for (let j = 0; j < 2 * n; j++) line[j] = (line[j] as number) / pivot;
    for (let k = 0; k < n; k++) {
      const other = matrix[k] as number[];
      const factor = other[i] as number;
      if (k !== i)
        for (let j = 0; j < 2 * n; j++) other[j] = (other[j] as number) - factor * (line[j] as number);
    }
  }
  const solve = (right: readonly number[]) =>
    right.map((_, i) =>
      used.includes(i)
        ? sum(used.map((j) => ((matrix[i] as number[])[n + j] as number) * (right[j] as number)))
        : 0,
    );
  return { solve, independent: used.length };
}

interface Tally {
  studies: number;
  known: number;
  decided: number;
  covered: Record<'size' | 'loss' | 'difference', [inside: number, of: number]>;
  /** Of the studies with an interval. */
  width: number;
  referenceWidth: number;
  referenceDecided: number;
}

function simulate(design: Design, gain: number): Tally {
  const tally: Tally = {
    studies: STUDIES / 2,
    known: 0,
    decided: 0,
    covered: { size: [0, 0], loss: [0, 0], difference: [0, 0] },
    width: 0,
    referenceWidth: 0,
    referenceDecided: 0,
  };
  const best = optimumOf(design);
  const params = Math.exp(design.from + design.unit * (best.x + 1));
  const known = design.layout.unknown === undefined;
  const [decider, referee] = known ? [reference(design, false), reference(design)] : [null, null];
  const count = (
    what: keyof Tally['covered'],
    interval: readonly [number, number] | null | undefined,
    value: number,
  ) => {
    if (interval == null) return;
    tally.covered[what][1] += 1;
    if (interval[0] <= value && value <= interval[1]) tally.covered[what][0] += 1;
  };
  for (let i = 0; i < STUDIES / 2; i++) {
    const losses = lossesOf(design, gain, i);
    const runs = design.runs.map((run, j) => ({ ...run, row: { ...run.row, loss: losses[j] as number } }));
    const study = studyOf(runs);
    const claim = claimsOf(study).find(({ id }) => id === 'mod-better');
    const dense = study.budgets[0]?.baseline?.optimum;
    const interval = claim?.numbers.find(
      ({ name }) => name === 'loss, optimal MoD minus optimal baseline',
    )?.interval;
    const referred = referee?.(losses);
    if (claim?.verdict === 'holds' || claim?.verdict === 'fails') tally.decided += 1;
    if (decider?.(losses).decides === true) tally.referenceDecided += 1;
    count('size', dense?.paramsInterval, params);
    count('loss', dense?.lossInterval, best.loss);
    count('difference', interval, gain);
    if (interval == null || referred === undefined) continue;
    tally.known += 1;
    tally.width += interval[1] - interval[0];
    tally.referenceWidth += referred.width;
  }
  return tally;
}

/** Two standard errors of a share of the studies. */
const error = (share: number, of: number) => 2 * Math.sqrt((share * (1 - share)) / of);

const summary: string[] = [];

it.each(LAYOUTS)(
  '$name: decides wrongly at most 1 time in 20, and rightly as often as a t test',
  (layout) => {
    const design = designOf(layout);
    const none = simulate(design, 0);
    const percent = ([inside, of]: readonly [number, number]) =>
      of === 0 ? '-' : `${((100 * inside) / of).toFixed(1)}%`;
    if (layout.unknown === true) {
      summary.push(`${layout.name.padEnd(28)} unknown, ${none.decided} decided`);
      expect(none).toMatchObject({ decided: 0, known: 0 });
      return;
    }
    const real = simulate(design, (-GAINS * none.referenceWidth) / Math.max(1, none.known));
    const covered = (what: keyof Tally['covered']): [number, number] => [
      none.covered[what][0] + real.covered[what][0],
      none.covered[what][1] + real.covered[what][1],
    ];
    const wrong = none.decided / none.studies;
    const power = real.decided / real.referenceDecided;
    const width = (none.width + real.width) / (none.referenceWidth + real.referenceWidth);
    summary.push(
      `${layout.name.padEnd(28)} decided without a difference ${percent([none.decided, none.studies])}; covered: size ${percent(covered('size'))}, loss ${percent(covered('loss'))}, difference ${percent(covered('difference'))}; power ${percent([real.decided, real.studies])} of ${percent([real.referenceDecided, real.studies])}; width ${width.toFixed(2)}`,
    );
    if (layout === LAYOUTS.at(-1)) console.log(summary.join('\n'));
    expect(wrong).toBeLessThanOrEqual(0.05 + error(0.05, none.studies));
    for (const what of ['size', 'loss', 'difference'] as const) {
      const [inside, of] = covered(what);
      if (of > 0.5 * STUDIES) expect(inside / of, what).toBeGreaterThanOrEqual(0.93 - error(0.07, of));
    }
    expect(power).toBeGreaterThanOrEqual(0.9 - error(0.9, real.studies) / 2);
    expect(width).toBeLessThanOrEqual(1.3);
  },
);

it('the best of three settings decides wrongly at most 1 time in 20', () => {
  const plan = plannedRuns(
    `flop_budgets: [1e15]\ncapacities: [0.125, 0.25, 0.5]\n${sizes(...FOUR)}${seeds(2)}`,
  );
  const middle = plan.reduce((total, { params_total }) => total + Math.log(params_total), 0) / plan.length;
  const runs = plan.map(loaded);
  const studies = 300;
  const decided = { holds: 0, fails: 0 };
  for (let i = 0; i < studies; i++) {
    const random = randomStream(34, 'calibration', 'settings', i);
    const study = studyOf(
      runs.map((run) => {
        const loss = FLOOR + BEND * (Math.log(run.row.params_total) - middle) ** 2 + NOISE * random.normal();
        return { ...run, row: { ...run.row, loss } };
      }),
    );
    const verdict = claimsOf(study).find(({ id }) => id === 'mod-better')?.verdict;
    if (verdict === 'holds' || verdict === 'fails') decided[verdict] += 1;
  }
  console.log(`3 settings, 4 x 2: holds ${decided.holds}, fails ${decided.fails} of ${studies}`);
  expect((decided.holds + decided.fails) / studies).toBeLessThanOrEqual(0.05 + error(0.05, studies));
});

/** The difference that is simulated, in widths of the reference's interval: a t test decides it about nine times in ten. */
const GAINS = 0.85;
