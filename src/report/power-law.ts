/** Chinchilla's approach 2 across budgets: fits power laws to the optimal parameters, tokens and FLOPs per pass. */
import { linearFit } from '../statistics.js';
import { type Interval, interval } from './parabola.js';

/** The optimum at one budget, and its bootstrap resamples. */
export interface BudgetOptimum {
  budget: number;
  value: number;
  samples: readonly number[];
}

/** value = coefficient · budget^exponent. */
export interface PowerLaw {
  exponent: number;
  coefficient: number;
  /** 95%, from the resamples of the optima; null if an optimum has none. */
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
  const resamples = Math.min(...optima.map(({ samples }) => samples.length));
  const exponents = Array.from(
    { length: resamples },
    (_, i) =>
      linearFit(
        x,
        optima.map(({ samples }) => Math.log10(samples[i] as number)),
      ).slope,
  );
  return {
    exponent: slope,
    coefficient: 10 ** intercept,
    exponentInterval: resamples === 0 ? null : interval(exponents),
    budgets,
  };
}

/** The law's value at a budget. */
export function powerLawAt({ coefficient, exponent }: PowerLaw, budget: number): number {
  return coefficient * budget ** exponent;
}
