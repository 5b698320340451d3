/** The parallel runs of a sweep: how many, on which GPUs, in which order. */
import { BACKENDS, type BackendName } from '../backends/names.js';
import { physicalCores } from '../machine.js';
import type { PlannedRun } from '../plan/run.js';
import { largestFirst } from '../plan/shard.js';

/**
 * `--jobs auto`: one run per physical core on wasm, which uses one thread; otherwise one run per GPU, or a single run if the
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
 * The runs in the order in which to start them. In parallel the largest starts first, so that no large run is left for the
 * end. With a time limit the end may not be reached, so the order of the file is kept as their priority.
 */
export function startingOrder(
  runs: readonly PlannedRun[],
  jobs: number,
  maxHours: number | undefined,
): readonly PlannedRun[] {
  return jobs === 1 || maxHours !== undefined ? runs : largestFirst(runs);
}

/**
 * Runs `work` on every item, in order, at most `jobs` at a time, until `stopped` returns true. `slot`, from 0, is unique
 * among the items in progress; the next item gets the free slot.
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
