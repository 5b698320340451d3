/** How many runs train side by side, on which GPU each, and keeping that many busy until all have ended. */

import { BACKENDS, type BackendName } from '../backends/names.js';
import { physicalCores } from '../machine.js';
import type { PlannedRun } from '../plan/run.js';
import { largestFirst } from '../plan/shard.js';

/**
 * `--jobs auto`: one run a physical core on wasm, which has one thread; else one a GPU, or a single one where the backend
 * uses all cores.
 *
 * @param gpus how many this process may use
 */
export function automaticJobs(backend: BackendName, gpus: number): number {
  return BACKENDS[backend].occupies === 'core' ? physicalCores() : Math.max(1, gpus);
}

/**
 * What keeps the run of a place to one GPU. Where there is but one, CUDA finds it by itself.
 *
 * @param slot the run's place among those that train side by side, from 0
 * @param gpus their names to CUDA_VISIBLE_DEVICES
 */
export function gpuEnvironment(slot: number, gpus: readonly string[]): Record<string, string> {
  if (gpus.length < 2) return {};
  return { CUDA_VISIBLE_DEVICES: gpus[slot % gpus.length] as string };
}

/**
 * Runs in the order in which they are started. Side by side the largest goes first, so that none is left over at the end.
 * Where time is limited there may be no such end: then the file's order says what matters most.
 */
export function startingOrder(
  runs: readonly PlannedRun[],
  jobs: number,
  maxHours: number | undefined,
): readonly PlannedRun[] {
  return jobs === 1 || maxHours !== undefined ? runs : largestFirst(runs);
}

/**
 * Runs `work` on every item, at most `jobs` at a time, in order of starting; stops starting once `stopped` says so.
 * `slot`, from 0, is the item's place among those at work: no two of them have the same, and who comes next takes the one
 * that is free.
 */
export async function inParallel<T>(
  items: readonly T[],
  jobs: number,
  work: (item: T, slot: number) => Promise<void>,
  stopped: () => boolean = () => false,
): Promise<void> {
  const queue = [...items];
  const worker = async (_: unknown, slot: number) => {
    for (let item = queue.shift(); item !== undefined && !stopped(); item = queue.shift())
      await work(item, slot);
  };
  await Promise.all(Array.from({ length: Math.min(jobs, items.length) }, worker));
}
