/** Losses at equal training time, and the compute that routing is worth: both by the local slope of losses over budgets. */
import type { Interval } from './curve-fit.js';
import { type Difference, isUnknown, lossDifference } from './differences.js';
import { type Estimate, intervalOf, sumOf, type Variance } from './estimate.js';
import { stepTimes } from './step-time.js';
import type { BudgetStudy, Curve, Study } from './study.js';

/** The loss of a curve's optimum, with its variance over seeds; null unless it is known. */
function optimalLoss({ doubt, fit, optimum }: Curve, { noise }: BudgetStudy): Estimate | null {
  if (doubt !== null) return null;
  const { spread } = noise.estimate(fit.weights);
  return { value: optimum.loss, spread };
}

/**
 * The change of a setting's optimal loss by the logarithm of the budget, between the budgets next to one; null without a
 * second budget where the optimum is known.
 */
export function localSlope({ budgets }: Study, { budget }: BudgetStudy, { setting }: Curve): Estimate | null {
  const known = budgets.flatMap((study) => {
    const curve = study.curves.find((one) => sameTraining(one, setting));
    const loss = curve === undefined ? null : optimalLoss(curve, study);
    return loss === null || loss.spread === null ? [] : [{ at: study.budget, ...loss, spread: loss.spread }];
  });
  const here = known.findIndex(({ at }) => at === budget);
  if (here < 0 || known.length < 2) return null;
  const [low, high] = [known[Math.max(0, here - 1)], known[Math.min(known.length - 1, here + 1)]];
  if (low === undefined || high === undefined) return null;
  const logs = Math.log(high.at / low.at);
  const scaled = ({ variance, freedom }: Variance): Variance => ({ variance: variance / logs ** 2, freedom });
  return { value: (high.value - low.value) / logs, spread: sumOf([scaled(low.spread), scaled(high.spread)]) };
}

const sameTraining = (curve: Curve, setting: Curve['setting']) => curve.setting.key === setting.key;

export interface EqualTime {
  mod: Curve;
  /** Time of all steps of the optimal MoD over that of the baseline, at equal FLOPs. */
  share: number;
  difference: Difference;
}

/**
 * The loss of the optimal MoD minus that of the optimal baseline in the same time: at equal FLOPs, and moved along the slope
 * of the MoD losses to the FLOPs that take as long. Null if the optima, the times or the slope are not known.
 */
export function equalTimeDifference(study: Study, budget: BudgetStudy): EqualTime | null {
  const { baseline, mod, noise } = budget;
  if (baseline === null || mod === null) return null;
  const atEqualFlops = lossDifference(mod, baseline, noise);
  const times = stepTimes(mod.best.all, baseline.best.all);
  const slope = localSlope(study, budget, mod);
  if (isUnknown(atEqualFlops) || times === null || slope === null) return null;
  const steps = mod.best.row.steps / baseline.best.row.steps;
  const share = (steps * times.times[0]) / times.times[1];
  if (isUnknown(times.ratio)) return { mod, share, difference: times.ratio };
  const log = Math.log(share);
  const value = atEqualFlops.value - slope.value * log;
  const parts = [
    atEqualFlops.spread,
    scaledBy(slope.spread, log ** 2),
    scaledBy(times.ratio.spread, slope.value ** 2),
  ];
  const spread = parts.includes(null)
    ? null
    : sumOf((parts as Variance[]).filter(({ variance }) => variance > 0));
  return { mod, share, difference: { value, spread } };
}

const scaledBy = (spread: Variance | null, factor: number): Variance | null =>
  spread && { ...spread, variance: spread.variance * factor };

/** How many times the budget the dense model would need for the loss of the optimal MoD. */
export interface ComputeMultiplier {
  value: number;
  interval: Interval | null;
}

/**
 * exp of the difference of losses over the local slope of the dense losses, with the interval of Fieller (1954) for the ratio;
 * null if the optima or the slope are not known.
 */
export function computeMultiplier(study: Study, budget: BudgetStudy): ComputeMultiplier | null {
  const { baseline, mod, noise } = budget;
  if (baseline === null || mod === null) return null;
  const difference = lossDifference(mod, baseline, noise);
  const slope = localSlope(study, budget, baseline);
  if (isUnknown(difference) || slope === null || !(slope.value < 0)) return null;
  const value = Math.exp(difference.value / slope.value);
  const [inDifference, inSlope] = [intervalOf(difference), intervalOf(slope)];
  if (inDifference === null || inSlope === null || inSlope[1] >= 0) return { value, interval: null };
  // d − ρ·s = 0 is not rejected between the roots of a quadratic in ρ, with t² times the variances from the intervals.
  const [d, s] = [difference.value, slope.value];
  const [vd, vs] = [((inDifference[1] - inDifference[0]) / 2) ** 2, ((inSlope[1] - inSlope[0]) / 2) ** 2];
  const [a, b, c] = [s * s - vs, -2 * d * s, d * d - vd];
  const root = Math.sqrt(Math.max(0, b * b - 4 * a * c));
  return { value, interval: [Math.exp((-b - root) / (2 * a)), Math.exp((-b + root) / (2 * a))] };
}
