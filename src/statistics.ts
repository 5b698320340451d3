/** Statistics of plain numbers: means, also of clustered values, medians, quantiles, a straight line. */

/** NaN for no values. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The middle value, or the mean of the two middle ones; NaN for no values. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** Mean and standard error of a stream of values (Welford 1962); its state is two numbers and a count. */
export class RunningMean {
  count: number;
  mean: number;
  /** Sum of squared distances from the mean. */
  squares: number;

  /** @param from the state to continue from */
  constructor(from: { count: number; mean: number; squares: number } = { count: 0, mean: 0, squares: 0 }) {
    this.count = from.count;
    this.mean = from.mean;
    this.squares = from.squares;
  }

  add(value: number): void {
    this.count += 1;
    const distance = value - this.mean;
    this.mean += distance / this.count;
    this.squares += distance * (value - this.mean);
  }

  /** Of the mean, from the sample's variance; null for fewer than two values. */
  get standardError(): number | null {
    return this.count < 2 ? null : Math.sqrt(this.squares / (this.count - 1) / this.count);
  }
}

/** Values that may depend on one another, such as the losses of a document's tokens: their sum and their number. */
export interface Cluster {
  sum: number;
  size: number;
}

/**
 * The mean of all values of G clusters, and its standard error if only values of different clusters are independent:
 * m = Σ sum / Σ size and SE² = G/(G − 1) · Σ (sum − m·size)² / (Σ size)², the ratio estimator of cluster sampling (Cochran
 * 1977, chapter 9A; for language models Miller 2024, arXiv 2411.00640). Clusters of one value give the ordinary standard error. For a paired difference, the sums are sums of differences. The standard error is null for fewer
 * than two clusters that are not empty.
 */
export function clusteredMean(clusters: readonly Cluster[]): { mean: number; standardError: number | null } {
  const filled = clusters.filter(({ size }) => size > 0);
  const size = filled.reduce((total, cluster) => total + cluster.size, 0);
  const average = filled.reduce((total, { sum }) => total + sum, 0) / size;
  if (filled.length < 2) return { mean: average, standardError: null };
  const squares = filled.reduce((total, cluster) => total + (cluster.sum - average * cluster.size) ** 2, 0);
  const correction = filled.length / (filled.length - 1);
  return { mean: average, standardError: Math.sqrt(correction * squares) / size };
}

/** The value below which a share of the values lies, by linear interpolation; NaN for no values. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const below = sorted[Math.floor(at)] ?? Number.NaN;
  const above = sorted[Math.ceil(at)] ?? Number.NaN;
  return below + (at - Math.floor(at)) * (above - below);
}

/** Least-squares line y = intercept + slope·x and Pearson's r; NaN if x is constant. */
export function linearFit(
  x: readonly number[],
  y: readonly number[],
): { intercept: number; slope: number; r: number } {
  const [meanX, meanY] = [mean(x), mean(y)];
  let [xx, xy, yy] = [0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    const [dx, dy] = [(x[i] as number) - meanX, (y[i] as number) - meanY];
    xx += dx * dx;
    xy += dx * dy;
    yy += dy * dy;
  }
  const slope = xx === 0 ? Number.NaN : xy / xx;
  return { intercept: meanY - slope * meanX, slope, r: xy / Math.sqrt(xx * yy) };
}
