/** Divides the runs of a submission into job arrays that the cluster accepts. */
import { InputError } from '../errors.js';
import { slurm } from './programs.js';

/** Slurm's default of MaxArraySize, assumed where its configuration cannot be read. */
const DEFAULT_SIZE = 1001;
/** Tasks of an array at most, whatever the cluster allows: the script lists each run, and Slurm accepts 4 MiB. */
const MOST_TASKS = 10_000;

/**
 * Tasks that one array may have here: the largest index is one less than MaxArraySize, and arrays start at 0.
 *
 * @throws InputError if the cluster has no job arrays
 */
export async function tasksPerArray(): Promise<number> {
  const size = parseMaxArraySize(await configuration()) ?? DEFAULT_SIZE;
  if (size > 0) return Math.min(size, MOST_TASKS);
  throw new InputError(
    'this cluster has no job arrays (MaxArraySize is 0): submit mod sweep --shard I/N, a job for each part',
  );
}

/** The output of scontrol; empty if it is not installed or fails: sbatch reports a controller that is down. */
async function configuration(): Promise<string> {
  try {
    return (await slurm('scontrol', ['show', 'config'])).stdout;
  } catch {
    return '';
  }
}

/** MaxArraySize            = 1001 */
export function parseMaxArraySize(stdout: string): number | null {
  const [, size] = /^MaxArraySize\s*=\s*(\d+)\s*$/m.exec(stdout) ?? [];
  return size === undefined ? null : Number(size);
}

/** Consecutive parts of at most `size` items each. */
export function chunksOf<Item>(items: readonly Item[], size: number): Item[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) =>
    items.slice(i * size, (i + 1) * size),
  );
}
