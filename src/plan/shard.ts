/** Dividing a plan by cost: among machines that know nothing of one another, and in the order in which to start. */
import type { PlannedRun } from './run.js';

/** The part of a plan that one of several machines trains. */
export interface Shard {
  /** From 0. */
  index: number;
  /** How many there are. */
  of: number;
}

/**
 * The runs of one shard, in the plan's order. The feasible runs are dealt out from the costliest down, each to the shard
 * that has the least FLOPs so far (longest processing time first, Graham 1969: at most 4/3 of the best division's longest
 * shard). What is done does not matter, so every machine comes to the same division whenever it asks; every run is in
 * exactly one shard.
 */
export function shardOf(plan: readonly PlannedRun[], { index, of }: Shard): PlannedRun[] {
  const feasible = plan.filter(({ status }) => status === 'pending');
  const flops = new Array<number>(Math.min(of, feasible.length)).fill(0); // others have nothing to do
  const mine = new Set<PlannedRun>();
  for (const run of largestFirst(feasible)) {
    const least = flops.indexOf(Math.min(...flops));
    flops[least] = (flops[least] as number) + run.train_flops;
    if (least === index) mine.add(run);
  }
  return plan.filter((run) => mine.has(run));
}

/** From the most training FLOPs to the fewest, equal ones in the order given: what starts last should be short. */
export function largestFirst(runs: readonly PlannedRun[]): PlannedRun[] {
  return [...runs].sort((a, b) => b.train_flops - a.train_flops);
}
