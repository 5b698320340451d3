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

/** What becomes of an item after `work`: nothing more, or it goes back to the front of the queue. */
export type WorkOutcome = 'settled' | 'again';

/**
 * Runs `work` on every item, in order, at most `jobs` at a time, until `stopped` returns true. `slot`, from 0, is unique
 * among the items in progress; the next item gets a free slot that accepts it.
 *
 * @returns the items that were not settled: `stopped` returned true, or no slot accepts them
 */
export async function inParallel<T>(
  items: readonly T[],
  jobs: number,
  work: (item: T, slot: number) => Promise<WorkOutcome>,
  {
    stopped = () => false,
    accepts = () => true,
  }: { stopped?: () => boolean; accepts?: (item: T, slot: number) => boolean } = {},
): Promise<T[]> {
  const queue = [...items];
  let inProgress = 0;
  let waiting: (() => void)[] = [];
  const worker = async (_: unknown, slot: number) => {
    while (!stopped()) {
      const at = queue.findIndex((item) => accepts(item, slot));
      if (at === -1) {
        if (inProgress === 0) return;
        // An item in progress may come back for this slot.
        await new Promise<void>((resolve) => waiting.push(resolve));
        continue;
      }
      const [item] = queue.splice(at, 1) as [T];
      inProgress += 1;
      try {
        if ((await work(item, slot)) === 'again') queue.unshift(item);
      } finally {
        inProgress -= 1;
        for (const wake of waiting) wake();
        waiting = [];
      }
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  return queue;
}
