/** The effect of a seed that is common to all shapes that share it. */
import type { Variance } from './estimate.js';
import { dot, inverseOf, leastSquares } from './least-squares.js';

/** What the noise of a run depends on. */
export interface NoisyRun {
  loss: number;
  seed: number;
  /** Runs with equal keys have one shape and setting: they differ in their seed only. */
  cell: string;
  /** The key of the run's curve. */
  curve: string;
  /** The number of parameters. */
  size: number;
}

/** Runs with their weights in an estimate. */
export type Weights = ReadonlyMap<NoisyRun, number>;

/** Seed effects are estimated if at least this many degrees of freedom are left. */
const LEFT_FREEDOM = 3;

export interface SeedEffects {
  seeds: number[];
  /** Sum to 0. */
  effects: number[];
  /** The weights of runs in the effects that a weighted sum of losses contains. */
  influence: (weights: Weights) => Map<NoisyRun, number>;
  /** Of the mean of the seeds around the mean of all seeds that could have been drawn; null if it is not above 0. */
  variance: (pure: Variance) => Variance | null;
}

/** The effects of seeds that several shapes share, by least squares within shapes; null if seeds are not shared. */
export function seedEffects(cells: readonly (readonly NoisyRun[])[]): SeedEffects | null {
  const seeds = [...new Set(cells.flatMap((cell) => cell.map(({ seed }) => seed)))].sort((a, b) => a - b);
  const freedom = cells.reduce((sum, cell) => sum + cell.length - 1, 0);
  if (seeds.length < 2 || cells.length < 2 || freedom - (seeds.length - 1) < LEFT_FREEDOM) return null;
  const last = seeds.at(-1);
  const coded = (seed: number) =>
    seeds.slice(0, -1).map((one) => (seed === one ? 1 : 0) - (seed === last ? 1 : 0));
  const runs: NoisyRun[] = [];
  const rows: number[][] = [];
  const losses: number[] = [];
  for (const cell of cells) {
    const codes = cell.map(({ seed }) => coded(seed));
    const center = codes[0]?.map(
      (_, i) => codes.reduce((sum, row) => sum + (row[i] as number), 0) / cell.length,
    );
    const loss = cell.reduce((sum, run) => sum + run.loss, 0) / cell.length;
    cell.forEach((run, i) => {
      runs.push(run);
      rows.push((codes[i] as number[]).map((value, j) => value - ((center as number[])[j] as number)));
      losses.push(run.loss - loss);
    });
  }
  const fit = leastSquares(
    rows,
    losses,
    losses.map(() => 1),
  );
  if (fit === null) return null;
  const effects = [...fit.beta, -fit.beta.reduce((sum, one) => sum + one, 0)];
  return {
    seeds,
    effects,
    influence: (weights) => {
      const total = new Array<number>(seeds.length - 1).fill(0);
      for (const [{ seed }, weight] of weights) {
        if (!seeds.includes(seed)) continue;
        for (const [i, code] of coded(seed).entries()) total[i] = (total[i] as number) + weight * code;
      }
      if (total.every((one) => Math.abs(one) < 1e-12)) return new Map();
      const solution = fit.inverse.map((line) => dot(line, total));
      return new Map(runs.map((run, i) => [run, dot(rows[i] as number[], solution)]));
    },
    variance: (pure) => {
      // The mean square between seeds has the expectation noise + runs per seed · seed variance.
      const normal = inverseOf(fit.inverse);
      const explained =
        normal === null
          ? 0
          : dot(
              fit.beta,
              normal.map((line) => dot(line, fit.beta)),
            );
      const between = explained / (seeds.length - 1);
      const perSeed = runs.length / seeds.length;
      const excess = (between - pure.variance) / perSeed;
      if (!(excess > 0)) return null;
      const all = between / perSeed;
      return {
        variance: excess / seeds.length,
        freedom: (seeds.length - 1) * (excess / all) ** 2,
      };
    },
  };
}
