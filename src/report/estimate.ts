/** Numbers with a variance that is itself an estimate: their intervals and tests by Student's t. */
import type { Interval } from './curve-fit.js';
import { t95, twoSidedP } from './distributions.js';

/** A variance and its degrees of freedom. */
export interface Variance {
  variance: number;
  freedom: number;
}

/** A number that is linear in the losses of runs, with the variance of that number; null if the variance is unknown. */
export interface Estimate {
  value: number;
  spread: Variance | null;
}

/** With fewer degrees of freedom an interval is too wide to be of use, and the noise counts as unknown: t is 12.7 with one. */
export const NEEDED_FREEDOM = 2;
/** Level of the test for lack of fit. */
export const TEST_LEVEL = 0.05;

/** The 95% interval by Student's t; null if the variance is unknown or has too few degrees of freedom. */
export function intervalOf({ value, spread }: Estimate): Interval | null {
  if (spread === null || spread.freedom < NEEDED_FREEDOM) return null;
  const half = t95(spread.freedom) * Math.sqrt(spread.variance);
  return [value - half, value + half];
}

/** Two-sided p of the hypothesis that the true value is `bound`; null where `intervalOf` is. */
export function pOf({ value, spread }: Estimate, bound = 0): number | null {
  if (spread === null || spread.freedom < NEEDED_FREEDOM) return null;
  return twoSidedP((value - bound) / Math.sqrt(spread.variance), spread.freedom);
}

/** The variance of a sum of independent parts, with Satterthwaite's degrees of freedom (1946). */
export function sumOf(parts: readonly Variance[]): Variance {
  const variance = parts.reduce((sum, part) => sum + part.variance, 0);
  const spread = parts.reduce((sum, part) => sum + part.variance ** 2 / part.freedom, 0);
  return { variance, freedom: spread === 0 ? Number.POSITIVE_INFINITY : variance ** 2 / spread };
}
