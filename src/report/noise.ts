/** The standard deviation of a run's loss over seeds, and the intervals that follow from it. */
import { mean } from '../statistics.js';
import type { Interval } from './parabola.js';

/** A sum of squares and its degrees of freedom. */
export interface Residual {
  squares: number;
  freedom: number;
}

export const pooled = (parts: readonly Residual[]): Residual => ({
  squares: parts.reduce((sum, { squares }) => sum + squares, 0),
  freedom: parts.reduce((sum, { freedom }) => sum + freedom, 0),
});

/** With fewer degrees of freedom a variance is too uncertain: with three its 95% interval spans a factor of 40. */
const ENOUGH_SEEDS = 3;

/** The standard deviation of one run's loss over seeds, pooled over sizes; null if too few sizes have a second seed. */
export function seedNoise(sizes: readonly (readonly { loss: number }[])[]): number | null {
  const { squares, freedom } = pooled(sizes.map(aboutMean));
  return freedom >= ENOUGH_SEEDS ? Math.sqrt(squares / freedom) : null;
}

function aboutMean(runs: readonly { loss: number }[]): Residual {
  const center = mean(runs.map(({ loss }) => loss));
  return { squares: runs.reduce((sum, { loss }) => sum + (loss - center) ** 2, 0), freedom: runs.length - 1 };
}

/** The same from the residuals of fitted curves: too large if a curve is not a parabola, null if the fits are exact. */
export function fitNoise(residuals: readonly Residual[]): number | null {
  const { squares, freedom } = pooled(residuals.filter((one) => one.freedom > 0));
  return freedom === 0 ? null : Math.sqrt(squares / freedom);
}

/** Two-sided 95% of a normal distribution. */
const Z95 = 1.96;

/** The 95% interval of a difference of two means of `a` and `b` runs, by default of two single runs. */
export function runInterval(value: number, noise: number | null, ofA = 1, ofB = 1): Interval | null {
  return noiseInterval(value, noise, 1 / ofA + 1 / ofB);
}

/** The 95% interval of a weighted sum of runs' losses with this sum of squared weights; null if the noise is unknown. */
export function noiseInterval(value: number, noise: number | null, squares: number): Interval | null {
  if (noise === null) return null;
  const half = Z95 * noise * Math.sqrt(squares);
  return [value - half, value + half];
}
