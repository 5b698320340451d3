/** Fits recover the truth of synthetic losses, report when they cannot, and agree with published tables. */
import { describe, expect, it } from 'vitest';
import { randomStream } from '../../src/random.js';
import { minimize } from '../../src/report/minimize.js';
import { fitOptimum, fitParabola, type Point, parabolaAt } from '../../src/report/parabola.js';
import { fitSurface, lossAt } from '../../src/report/parametric.js';
import { fitPowerLaw, powerLawAt } from '../../src/report/power-law.js';

const random = () => randomStream(0, 'test');
/** Points of 2 + (x - 7)² / 4 with noise, seven sizes around an optimum at 7. */
const points = (noise: number, xs = [6.1, 6.4, 6.7, 7, 7.3, 7.6, 7.9], ...keys: string[]): Point[] => {
  const stream = randomStream(0, 'points', ...keys);
  return xs.map((x) => ({ x, y: 2 + 0.25 * (x - 7) ** 2 + noise * stream.normal() }));
};

describe('a parabola', () => {
  it('fits points on a parabola exactly', () => {
    const parabola = fitParabola(points(0));
    for (const { x, y } of points(0)) expect(parabola && parabolaAt(parabola, x)).toBeCloseTo(y, 12);
  });

  it('finds a known optimum within its interval', () => {
    const fit = fitOptimum(points(0.002), random(), null);
    expect(fit.state).toBe('minimum');
    expect(fit.x).toBeCloseTo(7, 1);
    const [low, high] = fit.xInterval as [number, number];
    expect(low).toBeLessThan(7);
    expect(high).toBeGreaterThan(7);
    expect(high - low).toBeLessThan(0.1);
  });

  it('has an interval with about its nominal coverage', () => {
    // With only seven sizes, bootstrap intervals are known to be somewhat narrow.
    const covered = Array.from({ length: 60 }, (_, i) =>
      fitOptimum(points(0.004, undefined, String(i)), random(), null),
    ).filter(({ xInterval }) => xInterval !== null && xInterval[0] < 7 && xInterval[1] > 7).length;
    expect(covered / 60).toBeGreaterThan(0.75);
  });

  it.each([
    ['two sizes', [6.7, 7.3], 'too-few'],
    ['two sizes of several seeds', [6.7, 6.7, 7.3, 7.3], 'too-few'],
    ['sizes that end before it', [6, 6.2, 6.4, 6.6], 'above'],
    ['sizes that begin after it', [7.2, 7.4, 7.6], 'below'],
  ])('has an unknown optimum from %s', (_, xs, state) => {
    expect(fitOptimum(points(0, xs), random(), null)).toMatchObject({
      state,
      x: null,
      y: null,
      xInterval: null,
    });
  });

  it('has no minimum if its curvature is negative', () => {
    const bent = points(0).map(({ x, y }) => ({ x, y: -y }));
    expect(fitOptimum(bent, random(), null)).toMatchObject({ state: 'no-minimum', x: null });
  });

  it('through three sizes has no interval if the noise between seeds is unknown', () => {
    expect(fitOptimum(points(0, [6.5, 7.1, 7.5]), random(), null)).toMatchObject({
      state: 'minimum',
      xInterval: null,
    });
  });

  it.each([1, 3])('through three sizes of %i seeds has nominal coverage, from the known noise', (count) => {
    const sweeps = 200;
    const covered = Array.from({ length: sweeps }, (_, i) => {
      const seeds = Array.from({ length: count }, (_, seed) =>
        points(0.005, [6.5, 7.1, 7.5], `${i} ${seed}`),
      );
      return fitOptimum(seeds.flat(), random(), 0.005);
    }).filter(({ xInterval, yInterval }) => {
      const holds = (interval: typeof xInterval, truth: number) =>
        interval !== null && interval[0] < truth && interval[1] > truth;
      return holds(xInterval, 7) && holds(yInterval, 2);
    }).length;
    expect(covered / sweeps).toBeGreaterThan(0.88);
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
    fitPowerLaw(TABLE_A3.map((row) => ({ budget: row[1], value: row[column], samples: [] })));
  expect(law(0)?.exponent).toBeCloseTo(0.49, 2);
  expect(law(2)?.exponent).toBeCloseTo(0.51, 2);
  expect(law(0)?.exponentInterval).toBeNull();
});

it('a power law has an interval if the optima have bootstrap samples', () => {
  const stream = random();
  const optima = [1e18, 1e19, 1e20].map((budget) => ({
    budget,
    value: 3 * budget ** 0.5,
    samples: Array.from({ length: 200 }, () => 3 * budget ** 0.5 * Math.exp(0.05 * stream.normal())),
  }));
  const law = fitPowerLaw(optima);
  expect(law?.exponent).toBeCloseTo(0.5, 9);
  expect(law && powerLawAt(law, 1e19)).toBeCloseTo(3 * 1e19 ** 0.5, -3);
  expect(law?.exponentInterval?.[0]).toBeLessThan(0.5);
  expect(law?.exponentInterval?.[1]).toBeGreaterThan(0.5);
  expect(fitPowerLaw(optima.slice(0, 1))).toBeNull();
});

describe('approach 3', () => {
  // Besiroglu et al. 2024 (arXiv 2404.10102), their fit to Chinchilla's runs.
  const truth = { E: 1.8172, A: 482.01, B: 2085.43, alpha: 0.3478, beta: 0.3658 };
  const runs = [6e18, 1e19, 3e19, 6e19, 1e20, 3e20].flatMap((budget) =>
    [-0.8, -0.5, -0.2, 0.1, 0.4, 0.7].map((decades) => {
      const params = Math.sqrt(budget / 120) * 10 ** decades;
      const tokens = budget / (6 * params);
      return { params, tokens, loss: lossAt(truth, params, tokens) };
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
