/** Chinchilla's approach 2 across budgets: fits power laws to the optimal parameters, tokens and FLOPs per pass. */
import { linearFit, mean } from '../statistics.js';
import type { Interval } from './curve-fit.js';
import { t95 } from './distributions.js';
import { intervalOf, sumOf, type Variance } from './estimate.js';

/** The optimum at one budget, with its 95% interval and degrees of freedom. */
export interface BudgetOptimum {
  budget: number;
  value: number;
  interval: Interval | null;
  freedom: number;
}

/** value = coefficient · budget^exponent. */
export interface PowerLaw {
  exponent: number;
  coefficient: number;
  /** 95%, from the intervals of the optima; null if an optimum has none. */
  exponentInterval: Interval | null;
  budgets: number[];
}

/** Fits by least squares on logarithms (Hoffmann et al. 2022, section 3.2). Null for fewer than two budgets. */
export function fitPowerLaw(optima: readonly BudgetOptimum[]): PowerLaw | null {
  const budgets = [...new Set(optima.map(({ budget }) => budget))];
  if (budgets.length < 2) return null;
  const x = optima.map(({ budget }) => Math.log10(budget));
  const { slope, intercept } = linearFit(
    x,
    optima.map(({ value }) => Math.log10(value)),
  );
  return {
    exponent: slope,
    coefficient: 10 ** intercept,
    exponentInterval: intervalOf({ value: slope, spread: spreadOf(optima, x) }),
    budgets,
  };
}

/** The variance of the slope: a weighted sum of the logarithms of the optima, whose standard errors their intervals give. */
function spreadOf(optima: readonly BudgetOptimum[], x: readonly number[]): Variance | null {
  const center = mean(x);
  const squares = x.reduce((sum, one) => sum + (one - center) ** 2, 0);
  const parts = optima.map(({ interval, freedom }, i): Variance | null => {
    if (interval === null) return null;
    const error = Math.log10(interval[1] / interval[0]) / 2 / t95(freedom);
    return { variance: (((x[i] as number) - center) / squares) ** 2 * error ** 2, freedom };
  });
  return parts.includes(null) ? null : sumOf(parts as Variance[]);
}

/** The law's value at a budget. */
export function powerLawAt({ coefficient, exponent }: PowerLaw, budget: number): number {
  return coefficient * budget ** exponent;
}
