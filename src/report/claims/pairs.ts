/** MoD runs beside the dense runs of their shape. */
import { groupBy } from '../group.js';
import { sameMachine } from '../step-time.js';
import type { DoneRun } from '../study.js';

export interface Pair {
  routed: DoneRun;
  dense: DoneRun;
}

/**
 * Every learned MoD run with the dense run of its shape, budget, seed and machine; of several, the one with the same version
 * of the program and the same training settings.
 */
export function pairsWithDense(runs: readonly DoneRun[]): Pair[] {
  const shape = ({ row }: DoneRun) =>
    [row.flop_budget, row.d_model, row.n_layers, row.n_heads, row.d_ff, row.seed].join();
  const dense = groupBy(
    runs.filter(({ row }) => row.variant === 'baseline'),
    shape,
  );
  return runs
    .filter(({ row }) => row.variant === 'mod')
    .flatMap((routed) => {
      const likeness = ({ row, setting }: DoneRun) =>
        2 * Number(row.git_commit === routed.row.git_commit) +
        Number(setting.others === routed.setting.others);
      const [partner] = (dense.get(shape(routed)) ?? [])
        .filter((one) => sameMachine(one, routed))
        .sort((a, b) => likeness(b) - likeness(a));
      return partner === undefined ? [] : [{ routed, dense: partner }];
    });
}

/** The pairs by shape and setting: the seeds of each. */
export const shapesOf = (pairs: readonly Pair[]) => [
  ...groupBy(pairs, ({ routed }) => `${routed.row.flop_budget} ${routed.cell}`).values(),
];
