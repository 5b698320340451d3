/** The errors of the joint law by width, depth and learning rate: where it errs on one side, a term is missing. */
import type { Interval } from './curve-fit.js';
import { meanOf } from './differences.js';
import { groupBy } from './group.js';
import type { JointLaw, LawRun } from './joint-law.js';
import { intervalOf } from './noise.js';

export interface ResidualGroup {
  by: 'width' | 'depth' | 'learning rate' | 'kind';
  value: string;
  shapes: number;
  /** Mean relative error over shapes, observed over predicted minus 1, with its interval over shapes. */
  mean: number;
  interval: Interval | null;
}

const KEYS: Record<ResidualGroup['by'], (run: LawRun) => string | number> = {
  width: ({ row }) => row.d_model,
  depth: ({ row }) => row.n_layers,
  'learning rate': ({ spec }) => Number(spec.training.learning_rate.toPrecision(3)),
  kind: ({ setting }) => setting.shortLabel,
};

export function residualGroups({ residuals }: JointLaw): ResidualGroup[] {
  const runs = [...residuals.keys()];
  return (Object.keys(KEYS) as ResidualGroup['by'][]).flatMap((by) =>
    [...groupBy(runs, KEYS[by])]
      .sort(([a], [b]) => (typeof a === 'number' && typeof b === 'number' ? a - b : 0))
      .map(([value, of]) => {
        const shapes = [...groupBy(of, ({ row, cell }) => `${row.flop_budget} ${cell}`).values()];
        const found = meanOf(
          shapes.map(
            (shape) => shape.reduce((sum, run) => sum + (residuals.get(run) as number), 0) / shape.length,
          ),
        );
        return {
          by,
          value: String(value),
          shapes: shapes.length,
          mean: found.value,
          interval: intervalOf(found),
        };
      }),
  );
}
