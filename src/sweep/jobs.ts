/** How many runs train side by side, and keeping that many busy until all have ended. */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { BackendName } from '../plan/run.js';

/**
 * Physical cores that this process may use: two hardware threads of a core share its arithmetic, so they train no
 * faster than one. Where the kernel does not tell (no /proc), logical ones.
 */
export function physicalCores(
  cpuinfo: string | null = readCpuinfo(),
  logical = availableParallelism(),
): number {
  if (cpuinfo === null) return logical;
  const cores = new Set<string>();
  for (const processor of cpuinfo.split('\n\n')) {
    const [socket, core] = ['physical id', 'core id'].map(
      (key) => processor.match(new RegExp(`^${key}\\s*: (\\d+)$`, 'm'))?.[1],
    );
    if (core !== undefined) cores.add(`${socket ?? 0}/${core}`);
  }
  return cores.size === 0 ? logical : Math.min(cores.size, logical);
}

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

function readCpuinfo(): string | null {
  try {
    return readFileSync('/proc/cpuinfo', 'utf8');
  } catch {
    return null;
  }
}
