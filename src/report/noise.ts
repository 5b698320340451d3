/** The noise of the losses of one budget: the effect of each seed, the variance of a run, and estimates that follow. */
import { bartlett, equalVariances } from './equal-variances.js';
import { type Estimate, NEEDED_FREEDOM, sumOf, type Variance } from './estimate.js';
import { groupBy } from './group.js';
import { type NoisyRun, seedEffects, type Weights } from './seed-effects.js';

/** Level of the tests for noise that differs between curves: high, as to miss it costs more than to see it where it is not. */
const EQUAL_CURVES = 0.1;
/** The same between sizes. */
const EQUAL_SIZES = 0.05;
/** Each group of shapes whose noise is compared with that of others has at least this many. */
const GROUP_FREEDOM = 4;
/** Sum of squares of a curve's shapes around its fit, with the degrees of freedom. */
export interface CurveResidual {
  curve: string;
  squares: number;
  freedom: number;
}

/** How the variance of a run depends on the run. */
export type NoiseKind = 'one' | 'by curve' | 'by size' | 'unknown';

/**
 * The losses of one budget: y = shape + seed + noise. A seed's effect is common to all shapes and is estimated within
 * shapes, where seeds are shared; the variance of the noise is that of the seeds of a shape.
 */
export class Noise {
  /** Loss without the effect of the seed. */
  readonly adjusted: ReadonlyMap<NoisyRun, number>;
  /** Number of seeds whose common effect is removed; 0 if none is. */
  readonly seeds: number;
  /** Within shapes: the variance of a run. */
  readonly pure: Variance | null;
  /** Monte Carlo p of equal variances over groups of shapes of similar size; null for fewer than two. */
  readonly equalSizes: number | null;
  private readonly bySize: readonly SizeGroup[] | null;
  private readonly effect: (weights: Weights) => Map<NoisyRun, number>;
  private readonly seedVariance: Variance | null;
  private pooledVariance: Variance | null;
  /** Curves whose variance differs from that of the others: their own, null if it has too few degrees of freedom. */
  private apart: ReadonlyMap<string, Variance | null> = new Map();
  /** Monte Carlo p of equal variances over curves; null if fewer than two have one. */
  equalCurves: number | null = null;

  constructor(private readonly runs: readonly NoisyRun[]) {
    const cells = [...groupBy(runs, ({ cell }) => cell).values()].filter((cell) => cell.length > 1);
    const effects = seedEffects(cells);
    this.seeds = effects?.seeds.length ?? 0;
    const effectOf = new Map(effects?.seeds.map((seed, i) => [seed, effects.effects[i] as number]));
    this.adjusted = new Map(runs.map((run) => [run, run.loss - (effectOf.get(run.seed) ?? 0)]));
    this.effect = effects?.influence ?? (() => new Map());
    const spreads = cells.map((cell) => this.within(cell));
    const total = cells.reduce((sum, cell) => sum + cell.length - 1, 0);
    const lost = Math.max(0, this.seeds - 1);
    const squares = spreads.reduce((sum, { variance, freedom }) => sum + variance * freedom, 0);
    this.pure = total - lost < 1 ? null : { variance: squares / (total - lost), freedom: total - lost };
    this.pooledVariance = this.pure;
    this.separate(this.partsOf([]));
    const groups = sizeGroups(cells, (cell, i) => {
      const { variance, freedom } = spreads[i] as Variance;
      const common = this.scaleOf(cell.curve);
      return { variance: common === 0 ? 0 : variance / common, freedom };
    });
    this.equalSizes = equalVariances(
      groups.map(({ noise: { variance, freedom } }) => ({ variance: variance / widened(freedom), freedom })),
    );
    this.bySize = this.equalSizes !== null && this.equalSizes < EQUAL_SIZES ? groups : null;
    this.seedVariance = this.pure === null ? null : (effects?.variance(this.pure) ?? null);
  }

  private within(cell: readonly NoisyRun[]): Variance {
    const losses = cell.map((run) => this.adjusted.get(run) as number);
    const center = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
    const freedom = cell.length - 1;
    return { variance: losses.reduce((sum, loss) => sum + (loss - center) ** 2, 0) / freedom, freedom };
  }

  /** Adds what shapes deviate from fits that do not lack fit: more degrees of freedom, the only ones of single seeds. */
  pool(residuals: readonly CurveResidual[]): void {
    if (this.bySize !== null) return;
    const parts = this.partsOf(residuals);
    this.separate(parts);
  }

  /** The sums of squares of each curve: within shapes, and of these residuals. */
  private partsOf(residuals: readonly CurveResidual[]): CurveResidual[] {
    const within = [...groupBy(this.runs, ({ cell }) => cell).values()].flatMap((cell): CurveResidual[] => {
      if (cell.length < 2) return [];
      const { variance, freedom } = this.within(cell);
      return [{ curve: cell[0].curve, squares: variance * freedom, freedom }];
    });
    return [...groupBy([...within, ...residuals], ({ curve }) => curve)].map(([curve, parts]) => ({
      curve,
      squares: parts.reduce((sum, one) => sum + one.squares, 0),
      freedom: parts.reduce((sum, one) => sum + one.freedom, 0),
    }));
  }

  /**
   * Pools the curves whose variances do not differ. While they do, the one without which the others differ least is set apart;
   * of two that differ both are, unless that leaves one without an interval.
   */
  private separate(parts: readonly CurveResidual[]): void {
    let pool = parts
      .filter(({ freedom }) => freedom > 0)
      .map(({ curve, squares, freedom }) => ({ curve, variance: squares / freedom, freedom }));
    const apart = new Map<string, Variance | null>();
    const isEnough = ({ freedom }: Variance) => freedom >= NEEDED_FREEDOM;
    this.equalCurves = equalVariances(pool);
    for (let p = this.equalCurves; p !== null && p < EQUAL_CURVES; p = equalVariances(pool)) {
      if (pool.length === 2) {
        // The pool of both is kept for curves that have no variance of their own.
        if (pool.every(isEnough)) for (const { curve, ...own } of pool) apart.set(curve, own);
        break;
      }
      const rests = pool.map((odd) => ({ odd, rest: pool.filter((one) => one !== odd) }));
      const { odd, rest } = rests.reduce((best, one) =>
        bartlett(one.rest) < bartlett(best.rest) ? one : best,
      );
      apart.set(odd.curve, isEnough(odd) ? { variance: odd.variance, freedom: odd.freedom } : null);
      pool = rest;
    }
    this.apart = apart;
    const freedom = pool.reduce((sum, one) => sum + one.freedom, 0) - Math.max(0, this.seeds - 1);
    const squares = pool.reduce((sum, one) => sum + one.variance * one.freedom, 0);
    this.pooledVariance = freedom < 1 ? null : { variance: squares / freedom, freedom };
  }

  /** The variance of a curve's runs, whatever their size. */
  private ofCurve(curve: string): Variance | null {
    const own = this.apart.get(curve);
    return own === undefined ? this.pooledVariance : own;
  }

  /** What the variance of a size group is relative to: 1 if curves do not differ. */
  private scaleOf(curve: string): number {
    return this.apart.size === 0 ? 1 : (this.ofCurve(curve)?.variance ?? 1);
  }

  get kind(): NoiseKind {
    if (this.bySize !== null) return 'by size';
    if (this.apart.size > 0) return 'by curve';
    return this.pooledVariance === null ? 'unknown' : 'one';
  }

  /** The variance of one run, pooled over the budget; null if unknown. */
  get pooled(): Variance | null {
    return this.pooledVariance;
  }

  /** The variance of a run; null if unknown. */
  varianceOf(run: NoisyRun): Variance | null {
    if (this.bySize === null) return this.ofCurve(run.curve);
    const { noise } = groupAt(this.bySize, run.size);
    return { ...noise, variance: noise.variance * this.scaleOf(run.curve) };
  }

  /**
   * The sum of the runs' losses, without seed effects, by their weights.
   *
   * @param absolute whether the number is a loss, in which the seeds that were drawn matter, and not a difference
   */
  estimate(weights: Weights, absolute = false): Estimate {
    const value = [...weights].reduce(
      (sum, [run, weight]) => sum + weight * (this.adjusted.get(run) as number),
      0,
    );
    const full = new Map(weights);
    for (const [run, weight] of this.effect(weights)) full.set(run, (full.get(run) ?? 0) - weight);
    const groups = new Map<string, { variance: Variance | null; sum: number }>();
    for (const [run, weight] of full) {
      const key = this.groupOf(run);
      const group = groups.get(key) ?? { variance: this.varianceOf(run), sum: 0 };
      group.sum += weight * weight;
      groups.set(key, group);
    }
    const parts: Variance[] = [];
    for (const { variance, sum } of groups.values()) {
      if (sum < 1e-18) continue;
      if (variance === null) return { value, spread: null };
      parts.push({ variance: sum * variance.variance, freedom: variance.freedom });
    }
    if (absolute && this.seedVariance !== null) parts.push(this.seedVariance);
    return { value, spread: sumOf(parts) };
  }

  /**
   * The weight of a run in a fit: 1, or where the variance depends on the size one over its square root. One over the
   * variance would be best if that were known; as an estimate, it makes the fit follow the groups that look quiet by chance.
   */
  weightOf(run: NoisyRun): number {
    const variance = this.bySize === null ? null : this.varianceOf(run);
    return variance === null || variance.variance === 0 ? 1 : variance.variance ** -0.5;
  }

  /** Runs of one group have one variance. */
  groupOf({ size, curve }: NoisyRun): string {
    const ofCurve = this.apart.has(curve) ? curve : '';
    return this.bySize === null ? ofCurve : `${groupAt(this.bySize, size).upTo} ${ofCurve}`;
  }
}

/** Shapes of similar size, which share a variance. */
interface SizeGroup {
  upTo: number;
  noise: Variance;
}

/** Groups shapes by size, so that every group has enough degrees of freedom. */
function sizeGroups(
  cells: readonly (readonly NoisyRun[])[],
  spreadOf: (run: NoisyRun, i: number) => Variance,
): SizeGroup[] {
  const sorted = cells
    .map((cell, i) => ({ size: (cell[0] as NoisyRun).size, ...spreadOf(cell[0] as NoisyRun, i) }))
    .sort((a, b) => a.size - b.size);
  const groups: { upTo: number; squares: number; freedom: number }[] = [];
  let open = { upTo: 0, squares: 0, freedom: 0 };
  sorted.forEach(({ size, variance, freedom }, i) => {
    open = { upTo: size, squares: open.squares + variance * freedom, freedom: open.freedom + freedom };
    if (open.freedom >= GROUP_FREEDOM && sorted[i + 1]?.size !== size) {
      groups.push(open);
      open = { upTo: 0, squares: 0, freedom: 0 };
    }
  });
  const last = groups.at(-1);
  if (last === undefined) return [];
  if (open.freedom > 0) {
    last.squares += open.squares;
    last.freedom += open.freedom;
  }
  last.upTo = Number.POSITIVE_INFINITY;
  return groups.map(({ upTo, squares, freedom }) => ({
    upTo,
    noise: { variance: (squares / freedom) * widened(freedom), freedom },
  }));
}

/** The factor of a group's variance for the noise of the weights that follow from it (as Kackar and Harville 1984). */
const widened = (freedom: number) => 1 + 1 / freedom;

const groupAt = (groups: readonly SizeGroup[], size: number): SizeGroup =>
  groups.find(({ upTo }) => size <= upTo) as SizeGroup;
