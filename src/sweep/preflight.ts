/** What is looked at before anything is trained: the data of the runs, and the results that are there already. */
import { openHeldoutData, openTrainingData } from '../data/run-data.js';
import { dataTokenizer } from '../data/tokenizer.js';
import { canonicalJson } from '../plan/canonical.js';
import type { PlannedRun } from '../plan/run.js';
import { assertSameConfig } from '../results/run-folder.js';
import { runFolder } from '../results/sweep-folder.js';

/**
 * Opens the data of every run, once for each that differs, and sees that its tokenizer is there to go into checkpoints.
 *
 * @throws InputError for a tokenizer that is missing, or data that is missing, empty, damaged or shorter than one sequence
 */
export function checkData(runs: readonly PlannedRun[], baseDir: string): void {
  const seen = new Set<string>();
  for (const { spec } of runs) {
    const { data, model } = spec;
    const key = canonicalJson([data, model.sequence_length]);
    if (seen.has(key)) continue;
    seen.add(key);
    openTrainingData(spec, baseDir).close();
    openHeldoutData(spec, baseDir).close();
    dataTokenizer(data, baseDir);
  }
}

/** @throws InputError for the first run that has ended under another config than it would have now */
export function checkResults(sweepFolder: string, runs: readonly PlannedRun[]): void {
  for (const run of runs) assertSameConfig(runFolder(sweepFolder, run.run_id), run);
}
