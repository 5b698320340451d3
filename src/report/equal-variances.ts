/** Whether the variances of several groups are equal. */
import { randomStream } from '../random.js';
import type { Variance } from './estimate.js';

const DRAWS = 400;
const nulls = new Map<string, Float64Array>();

/**
 * Bartlett's test (1937) of equal variances, with its exact distribution under normal noise by simulation: the chi-squared
 * approximation is poor with one degree of freedom a group. Null for fewer than two groups.
 */
export function equalVariances(groups: readonly Variance[]): number | null {
  if (groups.length < 2) return null;
  const freedoms = groups.map(({ freedom }) => freedom).sort((a, b) => a - b);
  const key = freedoms.join();
  let simulated = nulls.get(key);
  if (simulated === undefined) {
    const random = randomStream(0, 'report', 'equal variances', key);
    simulated = Float64Array.from({ length: DRAWS }, () =>
      bartlett(freedoms.map((freedom) => ({ freedom, variance: chiSquared(freedom, random) / freedom }))),
    );
    nulls.set(key, simulated);
  }
  const found = bartlett(groups);
  return (1 + simulated.filter((one) => one >= found).length) / (1 + DRAWS);
}

function chiSquared(freedom: number, random: { normal(): number }): number {
  let sum = 0;
  for (let i = 0; i < freedom; i++) sum += random.normal() ** 2;
  return sum;
}

/** Bartlett's statistic, up to a factor: 0 for equal variances. */
export function bartlett(groups: readonly Variance[]): number {
  const freedom = groups.reduce((sum, one) => sum + one.freedom, 0);
  const pooled = groups.reduce((sum, one) => sum + one.freedom * one.variance, 0) / freedom;
  if (!(pooled > 0)) return 0;
  return groups.reduce((sum, one) => sum - one.freedom * Math.log(Math.max(one.variance / pooled, 1e-12)), 0);
}
