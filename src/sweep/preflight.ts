/** Checks before training: data, existing results, disk space. */
import { sweepCheckpointBytes } from '../checkpoint/disk-space.js';
import { folderBytes } from '../checkpoint/folder.js';
import type { DataFiles } from '../data/config.js';
import { dataFiles, openHeldoutData, openTrainingData } from '../data/run-data.js';
import { dataTokenizer } from '../data/tokenizers.js';
import { canonicalJson } from '../files/canonical.js';
import { bytes } from '../format.js';
import { freeDiskBytes } from '../machine.js';
import type { PlannedRun } from '../plan/run.js';
import { assertSameConfig, runFiles } from '../results/run-folder.js';
import { runFolder } from '../results/sweep-folder.js';

/**
 * Opens each distinct data configuration of the runs, and its tokenizer, which is stored in checkpoints.
 *
 * @throws InputError for a missing tokenizer, or data that is missing, empty, damaged or shorter than one sequence
 */
export async function checkData(runs: readonly PlannedRun[], baseDir: string): Promise<void> {
  const seen = new Set<string>();
  for (const { spec } of runs) {
    const { data, model } = spec;
    const key = canonicalJson([data, model.sequence_length]);
    if (seen.has(key)) continue;
    seen.add(key);
    (await openTrainingData(spec, baseDir)).close();
    (await openHeldoutData(spec, baseDir)).close();
    dataTokenizer(data, baseDir);
  }
}

/**
 * Checks existing results against the current plan. Missing data is accepted here: a sweep with nothing to train needs none.
 *
 * @throws InputError for the first run that was started or ended with another config or other data
 */
export function checkResults(
  sweepFolder: string,
  runs: readonly PlannedRun[],
  baseDir: string,
  retry: boolean,
): void {
  const filesByData = new Map<string, Partial<DataFiles>>();
  for (const run of runs) {
    const { data } = run.spec;
    const key = canonicalJson(data);
    const files = filesByData.get(key) ?? dataFiles(data, baseDir);
    filesByData.set(key, files);
    assertSameConfig(runFolder(sweepFolder, run.run_id), run, files, retry);
  }
}

/**
 * Checks that the disk has space for the checkpoints of these runs. Existing checkpoints of the runs count as available.
 *
 * @param free bytes that may be written; injected in tests
 * @throws Error with the sizes if the space is not enough
 */
export function checkDisk(
  sweepFolder: string,
  runs: readonly PlannedRun[],
  jobs: number,
  free: number = freeDiskBytes(sweepFolder),
): void {
  const folders = runs.map(({ run_id }) => runFiles(runFolder(sweepFolder, run_id)).checkpoints);
  const existing = folders.reduce((sum, folder) => sum + folderBytes(folder), 0);
  const needed = Math.max(0, sweepCheckpointBytes(runs, jobs) - existing);
  if (needed <= free) return;
  const which =
    runs.length === 1 ? '1 run' : `${runs.length} runs, ${Math.min(jobs, runs.length)} at a time,`;
  throw new Error(
    `${sweepFolder}: the checkpoints of ${which} need ${bytes(needed)} more, but only ${bytes(free)} are free: free disk space, choose another --results, or keep fewer checkpoints with checkpoint: {keep, keep_final}`,
  );
}
