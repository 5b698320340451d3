/** How many runs train side by side, and keeping that many busy until all have ended. */
import { physicalCores } from '../machine.js';
import type { BackendName } from '../plan/run.js';

/** `--jobs auto`: one run a physical core on wasm, which has one thread; one where the backend uses all cores or the GPU. */
export function automaticJobs(backend: BackendName): number {
  return backend === 'wasm' ? physicalCores() : 1;
}

/** Runs `work` on every item, at most `jobs` at a time, in order of starting; stops starting once `stopped` says so. */
export async function inParallel<T>(
  items: readonly T[],
  jobs: number,
  work: (item: T) => Promise<void>,
  stopped: () => boolean = () => false,
): Promise<void> {
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined && !stopped(); item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(jobs, items.length) }, worker));
}
