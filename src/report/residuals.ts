/** The errors of the joint law by width, depth and learning rate: where it errs on one side, a term is missing. */
import { mean } from '../statistics.js';
import type { Interval } from './curve-fit.js';
import { meanOf } from './differences.js';
import { intervalOf } from './estimate.js';
import { groupBy } from './group.js';
import { type JointLaw, type LawRun, routedParams } from './joint-law.js';

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

/** By learning rate over all runs of the law's kinds, by the others over the runs that it is fitted to. */
export function residualGroups(joint: JointLaw, runs: readonly LawRun[]): ResidualGroup[] {
  const others = runs.flatMap((run): [LawRun, number][] => {
    const setting = joint.kappas.findIndex(({ label }) => label === run.setting.shortLabel);
    if (setting < 0 && run.setting.variant !== 'baseline') return [];
    const { params_total, d_model, n_layers, tokens } = run.row;
    const routed = routedParams(run.spec.model);
    const sized = { params: params_total, routed, setting, d_model, n_layers, tokens };
    return [[run, run.loss / joint.lossOf(sized) - 1]];
  });
  return (Object.keys(KEYS) as ResidualGroup['by'][]).flatMap((by) => {
    const residuals = by === 'learning rate' ? new Map(others) : joint.residuals;
    return [...groupBy([...residuals.keys()], KEYS[by])]
      .sort(([a], [b]) => (typeof a === 'number' && typeof b === 'number' ? a - b : 0))
      .map(([value, of]) => {
        const shapes = [...groupBy(of, ({ row, cell }) => `${row.flop_budget} ${cell}`).values()];
        const found = meanOf(shapes.map((shape) => mean(shape.map((run) => residuals.get(run) as number))));
        return {
          by,
          value: String(value),
          shapes: shapes.length,
          mean: found.value,
          interval: intervalOf(found),
        };
      });
  });
}
