/** How many runs train in parallel, on which GPUs, in which order. */
import { BACKENDS, type BackendName } from '../backends/names.js';
import { physicalCores } from '../machine.js';
import type { PlannedRun } from '../plan/run.js';
import { largestFirst } from '../plan/shard.js';

/**
 * `--jobs auto`: one run per physical core on wasm, which has one thread; otherwise one per GPU, or a single one if the
 * backend uses all cores.
 *
 * @param gpus number of GPUs that this process may use
 */
export function automaticJobs(backend: BackendName, gpus: number): number {
  return { core: physicalCores, gpu: () => Math.max(1, gpus) }[BACKENDS[backend].occupies]();
}

/**
 * Environment that limits the run in a slot to one GPU. Empty for a single GPU, which CUDA finds by itself.
 *
 * @param slot the run's index among those that train in parallel, from 0
 * @param gpus the GPUs' names for CUDA_VISIBLE_DEVICES
 */
export function gpuEnvironment(slot: number, gpus: readonly string[]): Record<string, string> {
  if (gpus.length < 2) return {};
  return { CUDA_VISIBLE_DEVICES: gpus[slot % gpus.length] as string };
}

/**
 * Runs in the order in which they are started. In parallel the largest starts first, so that no large run is left for the
 * end. With a time limit the end may not be reached, and the file's order counts as priority.
 */
export function startingOrder(
  runs: readonly PlannedRun[],
  jobs: number,
  maxHours: number | undefined,
): readonly PlannedRun[] {
  return jobs === 1 || maxHours !== undefined ? runs : largestFirst(runs);
}

/**
 * Runs `work` on every item, in order, at most `jobs` at a time; starts no more once `stopped` returns true. `slot`, from
 * 0, is unique among the items in progress; the next item gets the free slot.
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
