/** What is looked at before anything is trained: data, results that are there already, room on the disk. */

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

/**
 * Data that are not there are not missed here: a sweep with nothing to train needs none.
 *
 * @throws InputError for the first run that has ended, or begun, under another config or on other data than it would now
 */
export function checkResults(
  sweepFolder: string,
  runs: readonly PlannedRun[],
  baseDir: string,
  retry: boolean,
): void {
  const known = new Map<string, Partial<DataFiles>>();
  for (const run of runs) {
    const { data } = run.spec;
    const key = canonicalJson(data);
    const files = known.get(key) ?? dataFiles(data, baseDir);
    known.set(key, files);
    assertSameConfig(runFolder(sweepFolder, run.run_id), run, files, retry);
  }
}

/**
 * What the runs have left on the disk already counts as there.
 *
 * @param free bytes that may be written; injected in tests
 * @throws Error with the numbers if the disk has less room than the checkpoints of these runs take
 */
export function checkDisk(
  sweepFolder: string,
  runs: readonly PlannedRun[],
  jobs: number,
  free: number = freeDiskBytes(sweepFolder),
): void {
  const folders = runs.map(({ run_id }) => runFiles(runFolder(sweepFolder, run_id)).checkpoints);
  const there = folders.reduce((sum, folder) => sum + folderBytes(folder), 0);
  const needed = Math.max(0, sweepCheckpointBytes(runs, jobs) - there);
  if (needed <= free) return;
  const these =
    runs.length === 1 ? '1 run' : `${runs.length} runs, ${Math.min(jobs, runs.length)} at a time,`;
  throw new Error(
    `${sweepFolder}: the checkpoints of ${these} take ${bytes(needed)} more, ${bytes(free)} are free: make room, choose another --results, or keep less with checkpoint: {keep, keep_final}`,
  );
}
