/** Divides a plan by cost among machines that do not communicate, and orders runs by cost. */
import type { PlannedRun } from './run.js';

/** One of several equal parts of a plan, for one of several machines. */
export interface Shard {
  /** From 0. */
  index: number;
  /** Number of shards. */
  of: number;
}

/**
 * The runs of one shard, in the plan's order. The feasible runs are assigned from the costliest down, each to the shard
 * with the fewest FLOPs so far (longest processing time first, Graham 1969: the longest shard has at most 4/3 of the FLOPs
 * of the best division's). The division does not depend on which runs are done, so it is the same on every machine at
 * any time. Every feasible run is in exactly one shard.
 */
export function shardOf(plan: readonly PlannedRun[], { index, of }: Shard): PlannedRun[] {
  const feasible = plan.filter(({ status }) => status === 'pending');
  const flops = new Array<number>(Math.min(of, feasible.length)).fill(0); // other shards are empty
  const mine = new Set<PlannedRun>();
  for (const run of largestFirst(feasible)) {
    const least = flops.indexOf(Math.min(...flops));
    flops[least] = (flops[least] as number) + run.train_flops;
    if (least === index) mine.add(run);
  }
  return plan.filter((run) => mine.has(run));
}

/** Sorts from the most training FLOPs to the fewest, stable: the runs that start last should be short. */
export function largestFirst(runs: readonly PlannedRun[]): PlannedRun[] {
  return [...runs].sort((a, b) => b.train_flops - a.train_flops);
}
