/** Finds the isoFLOP-optimal baseline of a finished sweep, the target of `match_flops`. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { shapeOf } from '../config/shapes.js';
import type { SweepFile } from '../config/sweep-file.js';
import { InputError } from '../errors.js';
import type { FlopsTarget } from '../plan/match-flops.js';
import type { BaselineOf } from '../plan/points.js';
import { loadRuns, sweepFolders } from '../results/load.js';
import { type BudgetStudy, studyOf } from './study.js';
import { budgetName } from './words.js';

/**
 * The FLOPs per pass of a sweep's optimal baseline at a budget, from the fitted curve if its minimum is in range, and the
 * shape of the best run.
 *
 * @param sweep its folder, or its name under the results
 * @throws InputError if there is no such sweep, or no finished dense run at this budget
 */
export function baselineOptimum(sweep: string, budget: number, resultsDir: string): FlopsTarget {
  const runs = loadRuns(sweepFolders([sweep], resultsDir)).filter(({ row }) => row.variant === 'baseline');
  const { budgets } = studyOf(runs);
  const baseline = budgets.find((study) => study.budget === budget)?.baseline;
  if (baseline == null) throw new InputError(`${sweep}: ${missingBaseline(budgets)}`);
  return { shape: shapeOf(baseline.best.row), flopsPerPass: baseline.optimum.flopsPerPass };
}

/** Resolves the sweeps that a file names in `match_flops`: folders relative to the file, or names under the results. */
export function baselinesOf({ path, dir }: Pick<SweepFile, 'path' | 'dir'>, resultsDir: string): BaselineOf {
  return (sweep, budget) => {
    const relativeToFile = resolve(dir, sweep);
    try {
      return baselineOptimum(existsSync(relativeToFile) ? relativeToFile : sweep, budget, resultsDir);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      throw new InputError(`${path}: match_flops: ${error.message}`);
    }
  };
}

function missingBaseline(budgets: readonly BudgetStudy[]): string {
  if (budgets.length === 0) return 'it has no finished dense run; train its baseline first';
  return `its dense runs have only ${budgets.map(({ budget }) => budgetName(budget)).join(', ')} FLOPs`;
}
