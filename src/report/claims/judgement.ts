/** Judges statements by tests: a side, the p that supports it, and their combinations over settings and budgets. */

import type { Difference } from '../differences.js';
import { t95 } from '../distributions.js';
import type { Doubt } from '../doubts.js';
import { pOf } from '../estimate.js';

/** The level of a verdict. */
export const LEVEL = 0.05;

/** A judgement on one side. */
type Decided = Exclude<Judgement, { side: 'undecided' }>;

/** The side of a statement on which the data are, and the p of the other one; no p where the data cannot tell. */
export type Judgement =
  | {
      side: 'holds' | 'fails';
      p: number;
      doubt: null;
      /** How many times the runs a difference of this size needs to be decided; below 1 if it is; absent if not known. */
      runs?: number;
    }
  | { side: 'undecided'; p: 1; doubt: Doubt | null };

const undecided = (doubt: Doubt | null): Judgement => ({ side: 'undecided', p: 1, doubt });

/** Whether a difference is below a bound. */
export function below(difference: Difference, bound: number): Judgement {
  if ('doubt' in difference) return undecided(difference.doubt);
  const p = pOf(difference, bound);
  if (p === null) return undecided(UNCERTAIN);
  const { value, spread } = difference;
  const side = value < bound ? 'holds' : 'fails';
  if (spread === null || spread.variance === 0) return { side, p, doubt: null };
  const runs = (t95(spread.freedom) ** 2 * spread.variance) / (value - bound) ** 2;
  return { side, p, doubt: null, runs };
}

const UNCERTAIN: Doubt = { reason: 'the uncertainty is unknown', remedy: 'a second seed of every model' };

/** Whether a difference is above a bound. */
export function above(difference: Difference, bound: number): Judgement {
  return not(below(difference, bound));
}

export function not(one: Judgement): Judgement {
  if (one.side === 'undecided') return one;
  return { ...one, side: one.side === 'holds' ? 'fails' : 'holds' };
}

/**
 * Whether all of several statements hold. All must hold by their own tests (Berger 1982); to fail, the one with the smallest p
 * is chosen after the fact, which Holm's first step pays for.
 */
export function allHold(...all: readonly Judgement[]): Judgement {
  const failing = all.filter((one): one is Decided => one.side === 'fails');
  const unknown = all.find(({ side }) => side === 'undecided');
  if (failing.length > 0) {
    const strongest = failing.reduce((least, one) => (one.p < least.p ? one : least));
    const p = Math.min(1, all.length * strongest.p);
    if (unknown === undefined || p <= LEVEL) return { ...strongest, p };
  }
  return unknown ?? all.reduce((weakest, one) => (one.p > weakest.p ? one : weakest));
}

/** Whether at least one of several statements holds. */
export const anyHolds = (...all: readonly Judgement[]): Judgement => not(allHold(...all.map(not)));

/** The p of several tests, so that the chance of any false decision stays at the level (Holm 1979). */
export function holm(ps: readonly number[]): number[] {
  const order = ps.map((p, i) => ({ p, i })).sort((a, b) => a.p - b.p);
  const adjusted = [...ps];
  let largest = 0;
  order.forEach(({ p, i }, rank) => {
    largest = Math.max(largest, Math.min(1, p * (ps.length - rank)));
    adjusted[i] = largest;
  });
  return adjusted;
}
