/** Formats the numbers of the report: budgets, losses, ratios, intervals. */
import type { Interval } from './curve-fit.js';

/** 6000000000000000000 → 6e18. */
export function budgetName(budget: number): string {
  return Number(budget.toPrecision(4)).toExponential().replace('e+', 'e');
}

/** A value and its 95% interval: `1.62 [1.48, 1.77]`; without an interval only the value. */
export function withInterval(
  value: number,
  interval: Interval | null,
  print: (value: number) => string,
): string {
  return interval === null ? print(value) : `${print(value)} [${print(interval[0])}, ${print(interval[1])}]`;
}

/** A difference in nats per token: `−0.0123`, `+0.0040`. */
export function signedLoss(value: number): string {
  return signed(value, value.toFixed(4));
}

/** A ratio, by its difference from 1: `−1.23%`, `+0.40%`. */
export function signedPercent(share: number): string {
  return signed(share, `${(100 * share).toFixed(2)}%`);
}

/** `12.5%` */
export function percent(share: number): string {
  return `${Number((100 * share).toPrecision(3))}%`;
}

/** Three significant digits, no exponent below a million: 0.562, 1.62, 38.1, 1240, −0.0154. */
export function significant(value: number): string {
  const short = Number(value.toPrecision(3));
  const text = Math.abs(short) >= 1e6 ? short.toExponential().replace('e+', 'e') : String(short);
  return text.replace(/^-/, '−');
}

/** 12500000 → 12.5M, 2e9 → 2B. */
export function shortCount(value: number): string {
  const units: [number, string][] = [
    [1e9, 'B'],
    [1e6, 'M'],
    [1e3, 'k'],
  ];
  for (const [size, unit] of units)
    if (value >= size) return `${Number((value / size).toPrecision(3))}${unit}`;
  return String(value);
}

function signed(value: number, text: string): string {
  if (Number(text.replace('%', '')) === 0) return text.replace('-', '');
  return value > 0 ? `+${text}` : text.replace('-', '−');
}
