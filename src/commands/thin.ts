/** `mod thin`: makes the step tables of finished runs small enough for git. */
import { counted } from '../format.js';
import { findSweep, readPlan, runFolder } from '../results/sweep-folder.js';
import { refreshTables } from '../results/tables.js';
import { thinRun } from '../results/thin.js';

export interface ThinCommandOptions {
  results: string;
}

/**
 * Thins steps.csv and heldout-losses.csv of every ended run of the target, rewrites the sweep's tables and prints the number of rows left.
 *
 * @throws InputError for an unknown target
 */
export function thinCommand(
  target: string,
  { results }: ThinCommandOptions,
  print: (text: string) => void,
): void {
  const { sweepFolder, runId } = findSweep(target, results);
  const { runs } = readPlan(sweepFolder);
  const chosen = runs.filter(({ run_id }) => runId === null || run_id === runId);
  const thinned = chosen.flatMap(({ run_id }) => thinRun(runFolder(sweepFolder, run_id)) ?? []);
  refreshTables(sweepFolder, runs);
  const rowsOf = (count: 'before' | 'after') => thinned.reduce((sum, one) => sum + one[count], 0);
  const left = chosen.length - thinned.length;
  const others = left === 0 ? '' : `; ${counted(left, 'run')} not ended, unchanged`;
  print(
    `${sweepFolder}: ${counted(thinned.length, 'run')}, ${rowsOf('before')} rows of steps.csv thinned to ${rowsOf('after')}${others}`,
  );
}
