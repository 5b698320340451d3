/** Fits recover the truth of synthetic losses, report when they cannot, and agree with published tables. */
import { describe, expect, it } from 'vitest';
import { randomStream } from '../../src/random.js';
import { allHold, anyHolds, below, holm } from '../../src/report/claims/judgement.js';
import { fitCurve, type ShapeMean } from '../../src/report/curve-fit.js';
import { fTail, t95, twoSidedP } from '../../src/report/distributions.js';
import { equalVariances } from '../../src/report/equal-variances.js';
import { minimize } from '../../src/report/minimize.js';
import { Noise } from '../../src/report/noise.js';
import { fitSurface, lossAt } from '../../src/report/parametric.js';
import { fitPowerLaw, powerLawAt } from '../../src/report/power-law.js';
import type { NoisyRun } from '../../src/report/seed-effects.js';

const random = () => randomStream(0, 'test');
/** Shapes of one family with losses 2 + (x - 7)² / 4. */
const family = (xs: readonly number[]): ShapeMean[] =>
  xs.map((x) => ({ x, z: -3, layers: 4, cost: 2.3 * x, loss: 2 + 0.25 * (x - 7) ** 2, weight: 1 }));

describe('a curve', () => {
  it('through shapes on a parabola has its minimum', () => {
    const fit = fitCurve(family([6.1, 6.4, 6.7, 7.2, 7.3, 7.9]));
    expect(fit).toMatchObject({ kind: 'size', state: 'minimum' });
    expect(fit?.optimum?.x).toBeCloseTo(7, 9);
    expect(fit?.optimum?.loss).toBeCloseTo(2, 12);
    expect(fit?.lack.squares).toBeCloseTo(0, 12);
  });

  it.each([
    ['sizes that end before it', [6, 6.2, 6.4, 6.6], 'above'],
    ['sizes that begin after it', [7.2, 7.4, 7.6], 'below'],
  ])('has an unknown optimum from %s', (_, xs, state) => {
    expect(fitCurve(family(xs))).toMatchObject({ state, optimum: null });
  });

  it('needs three sizes, and has no minimum if it bends downwards', () => {
    expect(fitCurve(family([6.7, 7.3, 7.3]))).toBeNull();
    const bent = family([6.1, 6.7, 7.2, 7.9]).map((shape) => ({ ...shape, loss: -shape.loss }));
    expect(fitCurve(bent)).toMatchObject({ state: 'no-minimum', optimum: null });
  });

  it('has Fieller’s interval of the optimal size', () => {
    // By hand: the slope b + 2ct is 0 at t = 0 with variance σ²/Σt², and its covariance with 2c vanishes for symmetric t.
    const xs = [-1, -0.5, 0, 0.5, 1];
    const fit = fitCurve(family(xs.map((t) => 7 + t)));
    const variance = 1e-4;
    const [s2, s4] = [2, 4].map((k) => xs.reduce((sum, t) => sum + t ** k, 0)) as [number, number];
    const [vb, vc] = [variance / s2, variance / (s4 - s2 ** 2 / 5)];
    const limit = t95(4) ** 2;
    const half = Math.sqrt((limit * vb) / (4 * 0.25 ** 2 - 4 * limit * vc));
    const interval = fit?.sizeInterval(
      xs.map(() => variance),
      4,
    );
    expect(interval?.[0]).toBeCloseTo(7 - half, 4);
    expect(interval?.[1]).toBeCloseTo(7 + half, 4);
    expect(
      fit?.sizeInterval(
        xs.map(() => 1),
        4,
      ),
    ).toBeNull();
  });

  it('over shapes of two depths is the envelope of both', () => {
    const shapes = [4, 8].flatMap((layers) =>
      [64, 96, 128, 192, 256].map((width): ShapeMean => {
        const x = Math.log10(12 * layers * width ** 2);
        const z = Math.log(layers / width);
        const loss = 2 + 0.25 * (x - 6.2) ** 2 + 0.01 * (z + 3) ** 2;
        return { x, z, layers, cost: Math.log(layers * width ** 2), loss, weight: 1 };
      }),
    );
    const fit = fitCurve(shapes);
    expect(fit?.kind).toBe('size and depth');
    expect(fit?.lack.squares).toBeCloseTo(0, 12);
    expect(fit?.optimum?.loss).toBeLessThanOrEqual(Math.min(...shapes.map(({ loss }) => loss)) + 1e-12);
    expect(fitCurve(shapes, false)?.kind).toBe('size');
  });
});

describe('distributions', () => {
  it.each([
    [1, 12.706],
    [2, 4.303],
    [5, 2.571],
    [30, 2.042],
  ])('t with %d degrees of freedom exceeds %d in 5%', (freedom, t) => {
    expect(t95(freedom)).toBeCloseTo(t, 3);
    expect(twoSidedP(t95(freedom), freedom)).toBeCloseTo(0.05, 9);
  });

  it('F with 3 and 10 degrees of freedom exceeds 3.708 in 5%', () => {
    expect(fTail(3.708, 3, 10)).toBeCloseTo(0.05, 4);
    expect(fTail(t95(7) ** 2, 1, 7)).toBeCloseTo(0.05, 9);
  });
});

describe('the noise', () => {
  /** Runs of shapes with seeds, by a formula. */
  const runsOf = (shapes: number, seeds: number, loss: (shape: number, seed: number) => number): NoisyRun[] =>
    Array.from({ length: shapes * seeds }, (_, i) => {
      const [shape, seed] = [Math.floor(i / seeds), i % seeds];
      return { loss: loss(shape, seed), seed, cell: `a\n${shape}`, curve: 'a', size: shape };
    });

  it('excludes the common effect of a seed', () => {
    const stream = random();
    const each = Array.from({ length: 18 }, () => 0.003 * stream.normal());
    const plain = new Noise(runsOf(6, 3, (shape, seed) => each[3 * shape + seed] as number));
    const shifted = new Noise(runsOf(6, 3, (shape, seed) => (each[3 * shape + seed] as number) + 0.5 * seed));
    expect(shifted.seeds).toBe(3);
    expect(shifted.pure?.freedom).toBe(10);
    expect(shifted.pure?.variance).toBeCloseTo(plain.pure?.variance as number, 12);
  });

  it('of single seeds is unknown within shapes', () => {
    const noise = new Noise(runsOf(5, 1, (shape) => shape));
    expect(noise.pure).toBeNull();
    expect(noise.kind).toBe('unknown');
    noise.pool([{ curve: 'a', squares: 8, freedom: 2 }]);
    expect(noise.pooled).toEqual({ variance: 4, freedom: 2 });
  });

  it('is tested for equality: two groups that differ by much are found', () => {
    const group = (variance: number) => ({ variance, freedom: 8 });
    expect(equalVariances([group(1), group(1.2)])).toBeGreaterThan(0.3);
    expect(equalVariances([group(1), group(50)])).toBeLessThan(0.01);
    expect(equalVariances([group(1)])).toBeNull();
  });
});

describe('tests of several statements', () => {
  const holding = (p: number) => ({ side: 'holds', p, doubt: null }) as const;
  const failing = (p: number) => ({ side: 'fails', p, doubt: null }) as const;

  it('are adjusted as Holm does', () => {
    expect(holm([0.01, 0.04, 0.03])).toEqual([0.03, 0.06, 0.06]);
  });

  it('all hold by the weakest, one fails by the strongest times their number', () => {
    expect(allHold(holding(0.01), holding(0.03))).toEqual(holding(0.03));
    expect(allHold(holding(0.01), failing(0.02))).toEqual(failing(0.04));
    expect(anyHolds(holding(0.02), failing(0.001))).toEqual(holding(0.04));
    expect(anyHolds(failing(0.01), failing(0.04))).toEqual(failing(0.04));
  });

  it('name the runs that a difference of this size needs', () => {
    // t is 1, and 2.23 is needed with ten degrees of freedom: 5 times the runs.
    const found = below({ value: -0.01, spread: { variance: 1e-4, freedom: 10 } }, 0);
    expect(found).toMatchObject({ side: 'holds', runs: expect.closeTo(t95(10) ** 2, 6) });
  });
});

it('BFGS finds the minimum of Rosenbrock’s function', () => {
  const rosenbrock = ([x, y]: readonly number[]) => {
    const [a, b] = [x as number, y as number];
    const gradient = [-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)];
    return { value: (1 - a) ** 2 + 100 * (b - a * a) ** 2, gradient };
  };
  const { x } = minimize(rosenbrock, [-1.2, 1]);
  expect(x[0]).toBeCloseTo(1, 5);
  expect(x[1]).toBeCloseTo(1, 5);
});

/** Table A3 of Hoffmann et al. 2022, approach 2: parameters, optimal training FLOPs, tokens. */
const TABLE_A3 = [
  [400e6, 1.84e19, 7.7e9],
  [1e9, 1.2e20, 20e9],
  [10e9, 1.32e22, 219.5e9],
  [67e9, 6.88e23, 1.7e12],
  [175e9, 4.54e24, 4.3e12],
  [280e9, 1.18e25, 7.1e12],
  [520e9, 4.19e25, 13.4e12],
  [1e12, 1.59e26, 26.5e12],
  [10e12, 1.75e28, 292e12],
] as const;

it('the power laws of Chinchilla’s table have the exponents of the paper, 0.49 and 0.51', () => {
  const law = (column: 0 | 2) =>
    fitPowerLaw(TABLE_A3.map((row) => ({ budget: row[1], value: row[column], interval: null, freedom: 0 })));
  expect(law(0)?.exponent).toBeCloseTo(0.49, 2);
  expect(law(2)?.exponent).toBeCloseTo(0.51, 2);
  expect(law(0)?.exponentInterval).toBeNull();
});

it('a power law has an interval if the optima have one', () => {
  const optima = [1e18, 1e19, 1e20].map((budget) => {
    const value = 3 * budget ** 0.5;
    return { budget, value, interval: [value / 1.1, value * 1.1] as const, freedom: 10 };
  });
  const law = fitPowerLaw(optima);
  expect(law?.exponent).toBeCloseTo(0.5, 9);
  expect(law && powerLawAt(law, 1e19)).toBeCloseTo(3 * 1e19 ** 0.5, -3);
  // The slope is half the difference of the outer two logarithms: 20 degrees of freedom.
  const half = (Math.log10(1.1) / t95(10) / Math.sqrt(2)) * t95(20);
  expect(law?.exponentInterval?.[0]).toBeCloseTo(0.5 - half, 9);
  expect(law?.exponentInterval?.[1]).toBeCloseTo(0.5 + half, 9);
  expect(fitPowerLaw(optima.slice(0, 1))).toBeNull();
});

describe('approach 3', () => {
  // Besiroglu et al. 2024 (arXiv 2404.10102), their fit to Chinchilla's runs.
  const truth = { E: 1.8172, A: 482.01, B: 2085.43, alpha: 0.3478, beta: 0.3658 };
  const runs = [6e18, 1e19, 3e19, 6e19, 1e20, 3e20].flatMap((budget) =>
    [-0.8, -0.5, -0.2, 0.1, 0.4, 0.7].map((decades) => {
      const params = Math.sqrt(budget / 120) * 10 ** decades;
      const tokens = budget / (6 * params);
      return { params, tokens, loss: lossAt(truth, params, tokens), cell: `${budget} ${decades}` };
    }),
  );

  it('recovers the surface behind the losses, and its exponents', () => {
    const fit = fitSurface(runs, 6, random());
    expect(fit?.surface.alpha).toBeCloseTo(truth.alpha, 2);
    expect(fit?.surface.beta).toBeCloseTo(truth.beta, 2);
    expect(fit?.surface.E).toBeCloseTo(truth.E, 2);
    expect(fit?.paramsExponent).toBeCloseTo(truth.beta / (truth.alpha + truth.beta), 2);
    expect(fit?.rmsLogError).toBeLessThan(1e-4);
  });

  it('is robust to a few bad runs', () => {
    const bad = runs.map((run, i) => (i % 12 === 5 ? { ...run, loss: 1.2 * run.loss } : run));
    expect(fitSurface(bad, 6, random())?.paramsExponent).toBeCloseTo(0.513, 1);
  });

  it('requires several budgets and eight runs', () => {
    expect(fitSurface(runs.slice(0, 6), 1, random())).toBeNull();
    expect(fitSurface(runs.slice(0, 7), 2, random())).toBeNull();
  });
});
