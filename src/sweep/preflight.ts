/** Checks before training: data, existing results, disk space. */
import { sweepCheckpointBytes } from '../checkpoint/disk-space.js';
import { folderBytes } from '../checkpoint/folder.js';
import { countWindows } from '../data/batches.js';
import type { DataFiles } from '../data/config.js';
import { heldoutWarnings } from '../data/heldout-check.js';
import { dataFiles, heldoutUse } from '../data/run-data.js';
import { dataTokenizer } from '../data/tokenizers.js';
import { openTokens } from '../data/tokens.js';
import { canonicalJson } from '../files/canonical.js';
import { bytes } from '../format.js';
import { freeDiskBytes } from '../machine.js';
import type { PlannedRun } from '../plan/run.js';
import { assertSameConfig, runFiles } from '../results/run-folder.js';
import { runFolder } from '../results/sweep-folder.js';

/**
 * Opens each distinct data configuration of the runs, and its tokenizer, which is stored in checkpoints.
 *
 * @returns warnings about the held-out data
 * @throws InputError for a missing tokenizer, or data that is missing, empty, damaged or shorter than one sequence
 */
export async function checkData(runs: readonly PlannedRun[], baseDir: string): Promise<string[]> {
  const seen = new Set<string>();
  const warnings = new Set<string>();
  for (const { spec } of runs) {
    const { data, model, evaluation } = spec;
    const key = canonicalJson([data, model.sequence_length, evaluation.sequences]);
    if (seen.has(key)) continue;
    seen.add(key);
    const train = await openTokens(data, 'train', baseDir);
    const heldout = await openTokens(data, 'heldout', baseDir);
    try {
      for (const source of [train, heldout]) countWindows(source, model.sequence_length);
      dataTokenizer(data, baseDir);
      for (const warning of heldoutWarnings(train, heldout, heldoutUse(spec))) warnings.add(warning);
    } finally {
      train.close();
      heldout.close();
    }
  }
  return [...warnings];
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
