/** Shards divide a plan: every run once, evenly, and the same on every machine. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { largestFirst, shardOf } from '../../src/plan/shard.js';
import { plannedRun } from '../results/planned-run.js';

const costs = fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 1, maxLength: 40 });
const planOf = (flops: number[]) =>
  flops.map((train_flops, i) => plannedRun(`run-${i}`, { train_flops: train_flops * 1e18 }));
const sum = (runs: { train_flops: number }[]) =>
  runs.reduce((total, { train_flops }) => total + train_flops, 0);

it('every feasible run is in exactly one shard, in the plan’s order', () => {
  fc.assert(
    fc.property(costs, fc.integer({ min: 1, max: 60 }), (flops, of) => {
      const skipped = plannedRun('never', { status: 'skipped', note: 'selects none' });
      const plan = [skipped, ...planOf(flops)];
      const shards = Array.from({ length: of }, (_, index) => shardOf(plan, { index, of }));
      for (const shard of shards) expect(shard).toEqual(plan.filter((run) => shard.includes(run)));
      expect(
        shards
          .flat()
          .map(({ run_id }) => run_id)
          .sort(),
      ).toEqual(
        plan
          .slice(1)
          .map(({ run_id }) => run_id)
          .sort(),
      );
    }),
  );
});

it('no shard is longer than another by more than its own smallest run', () => {
  fc.assert(
    fc.property(costs, fc.integer({ min: 2, max: 8 }), (flops, of) => {
      const plan = planOf(flops);
      const shards = Array.from({ length: of }, (_, index) => shardOf(plan, { index, of }));
      for (const shard of shards) {
        const withoutSmallest = sum(largestFirst(shard).slice(0, -1));
        for (const other of shards) expect(withoutSmallest).toBeLessThanOrEqual(sum(other));
      }
    }),
  );
});

it('equal runs are assigned in the plan’s order, whichever of them are done', () => {
  const plan = planOf([5, 5, 9, 5, 5]);
  expect([0, 1].map((index) => shardOf(plan, { index, of: 2 }).map(({ run_id }) => run_id))).toEqual([
    ['run-2', 'run-3'],
    ['run-0', 'run-1', 'run-4'],
  ]);
});
