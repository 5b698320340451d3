/** Differences of losses between curves, settings and models, with their intervals. */
import { mean } from '../statistics.js';
import type { Interval } from './curve-fit.js';
import { fTail, t95 } from './distributions.js';
import { type Doubt, doubtOfRuns } from './doubts.js';
import { type Estimate, intervalOf, TEST_LEVEL, type Variance } from './estimate.js';
import type { Noise } from './noise.js';
import type { NoisyRun } from './seed-effects.js';
import type { Curve, DoneRun, SizeMean } from './study.js';
import { meanLoss, sizesOf } from './study.js';
import { signedLoss, withInterval } from './words.js';

/** A difference that no data support, and why. */
export interface Unknown {
  doubt: Doubt;
}

/** A difference with its variance, or the reason why it is not known. */
export type Difference = (Estimate & { pairs?: number }) | Unknown;

export const isUnknown = (difference: Difference): difference is Unknown => 'doubt' in difference;

/** The 95% interval; null if unknown. */
export const differenceInterval = (difference: Difference): Interval | null =>
  isUnknown(difference) ? null : intervalOf(difference);

/** The difference of two sums of runs' losses. */
function contrast(
  noise: Noise,
  a: ReadonlyMap<NoisyRun, number>,
  b: ReadonlyMap<NoisyRun, number>,
): Estimate {
  const weights = new Map(a);
  for (const [run, weight] of b) weights.set(run, (weights.get(run) ?? 0) - weight);
  return noise.estimate(weights);
}

/** Loss of the optimum of `a` minus that of `b`; unknown unless both optima are known. */
export function lossDifference(a: Curve, b: Curve, noise: Noise): Difference {
  const doubt = a.doubt ?? b.doubt;
  if (doubt !== null) return { doubt };
  return contrast(noise, a.fit.weights, b.fit.weights);
}

/** The same by parabolas over the size alone; null if they are the fits, or have no minimum. */
export function plainDifference(a: Curve, b: Curve, noise: Noise): Difference | null {
  const [ofA, ofB] = [a.fit, b.fit];
  if (ofA.kind === 'size' && ofB.kind === 'size') return null;
  const [first, second] = [ofA.plain ?? ofA.weights, ofB.plain ?? ofB.weights];
  return first.size === 0 || second.size === 0 ? null : contrast(noise, first, second);
}

/** The same for two routing settings of about equal cost; without both optima, shape by shape. */
export function settingDifference(a: Curve, b: Curve, noise: Noise): Difference {
  const optima = lossDifference(a, b, noise);
  if (!isUnknown(optima)) return optima;
  const shapeKey = ({ row: { d_model, n_layers, n_heads, d_ff } }: DoneRun) =>
    [d_model, n_layers, n_heads, d_ff].join();
  const shapesOfB = new Map(sizesOf(b.runs).map((runs) => [shapeKey(runs[0] as DoneRun), runs]));
  const pairs = sizesOf(a.runs).flatMap((runs): Pair[] => {
    const others = shapesOfB.get(shapeKey(runs[0] as DoneRun));
    return others === undefined ? [] : [[runs, others]];
  });
  const doubt = doubtOfRuns(a.setting.label, a.best) ?? doubtOfRuns(b.setting.label, b.best);
  if (pairs.length === 0 || doubt !== null) return { doubt: doubt ?? optima.doubt };
  return pairedDifference(pairs, noise);
}

/** Two models: the seeds of each. */
export type Pair = [readonly DoneRun[], readonly DoneRun[]];

/**
 * The mean over pairs of models. Its variance is that of the seeds, or of the pairs around their mean if that is larger by a
 * test: then the difference depends on the shape.
 */
export function pairedDifference(pairs: readonly Pair[], noise: Noise): Difference {
  const weights = [0, 1].map((side) => {
    const of = new Map<NoisyRun, number>();
    for (const pair of pairs) {
      const runs = pair[side] as readonly DoneRun[];
      for (const run of runs) of.set(run, (of.get(run) ?? 0) + 1 / runs.length / pairs.length);
    }
    return of;
  }) as [Map<NoisyRun, number>, Map<NoisyRun, number>];
  const found = contrast(noise, ...weights);
  const each = pairs.map(([a, b]) => meanLoss(a) - meanLoss(b));
  const center = mean(each);
  const freedom = pairs.length - 1;
  const between: Variance | null =
    freedom < 2
      ? null
      : {
          variance: each.reduce((sum, one) => sum + (one - center) ** 2, 0) / freedom / pairs.length,
          freedom,
        };
  const { spread } = found;
  const dependsOnShape =
    between !== null &&
    (spread === null ||
      (between.variance > spread.variance &&
        fTail(between.variance / spread.variance, freedom, spread.freedom) < TEST_LEVEL));
  return { value: found.value, spread: dependsOnShape ? between : spread, pairs: pairs.length };
}

/** Loss of one model minus that of another, seeds averaged. */
export function modelDifference(
  a: Pick<SizeMean, 'loss' | 'all'>,
  b: Pick<SizeMean, 'loss' | 'all'>,
  noise: Noise,
): Difference {
  const weigh = ({ all }: Pick<SizeMean, 'all'>) =>
    new Map<NoisyRun, number>(all.map((run) => [run, 1 / all.length]));
  const found = contrast(noise, weigh(a), weigh(b));
  // A loss in another routing mode moves with the loss of its run.
  return { ...found, value: found.value + a.loss - meanLoss(a.all) - (b.loss - meanLoss(b.all)) };
}

/**
 * Of positive ratios: the interval of the difference of logarithms from the intervals of both (Zou and Donner 2008), as a
 * normal-like estimate of the logarithm.
 */
export function ratio(
  [a, ofA]: readonly [number, Interval | null],
  [b, ofB]: readonly [number, Interval | null],
  freedom: number,
): { value: number; interval: Interval | null; log: Estimate } {
  const value = Math.log(a / b);
  if (ofA === null || ofB === null || freedom < 1) {
    return { value: a / b, interval: null, log: { value, spread: null } };
  }
  const half = (upA: boolean) =>
    Math.hypot(Math.log(upA ? ofA[1] / a : a / ofA[0]), Math.log(upA ? b / ofB[0] : ofB[1] / b));
  const [down, up] = [half(false), half(true)];
  const error = Math.max(down, up) / t95(freedom);
  return {
    value: a / b,
    interval: [Math.exp(value - down), Math.exp(value + up)],
    log: { value, spread: { variance: error ** 2, freedom } },
  };
}

/** The mean of independent values with the interval of Student's t; unknown for fewer than three. */
export function meanOf(values: readonly number[]): Estimate {
  const value = mean(values);
  const freedom = values.length - 1;
  if (freedom < 2) return { value, spread: null };
  const squares = values.reduce((sum, one) => sum + (one - value) ** 2, 0);
  return { value, spread: { variance: squares / freedom / values.length, freedom } };
}

/** A difference of losses as text, with a note on its basis. */
export function differenceText(difference: Difference): string {
  if (isUnknown(difference)) return `not known, as ${difference.doubt.reason}`;
  const range = intervalOf(difference);
  const { value, pairs } = difference;
  const doubts = [
    ...(pairs === undefined ? [] : [`shape by shape, ${pairs === 1 ? 'one shape' : `${pairs} shapes`}`]),
    ...(range === null ? ['uncertainty unknown: too few runs'] : []),
  ];
  return `${withInterval(value, range, signedLoss)} nats${doubts.length === 0 ? '' : ` (${doubts.join('; ')})`}`;
}
