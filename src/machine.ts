/** Describes this machine: processor, memory, disk, GPUs. Reads the operating system and nvidia-smi; loads no libraries. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statfsSync } from 'node:fs';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { dirname, resolve } from 'node:path';

export interface Gpu {
  /** In the notation of CUDA_VISIBLE_DEVICES: GPU-5b2b8b6e-... */
  uuid: string;
  name: string;
  driver: string;
  memoryBytes: number;
  /** For example 9.0. */
  computeCapability: string;
}

export interface Machine {
  processor: string;
  /** Cores and hardware threads that this process may use. */
  cores: number;
  threads: number;
  memoryBytes: number;
  freeMemoryBytes: number;
  gpus: Gpu[];
}

/** A processor's name, as the operating system gives it. */
export function cpuName(): string {
  return cpus()[0]?.model.trim() || process.arch;
}

export function describeMachine(): Machine {
  return {
    processor: cpuName(),
    cores: physicalCores(),
    threads: availableParallelism(),
    memoryBytes: totalmem(),
    freeMemoryBytes: freemem(),
    gpus: nvidiaGpus(),
  };
}

/**
 * Physical cores that this process may use: the two hardware threads of a core share its arithmetic units, so they are not
 * faster than one. Without /proc/cpuinfo, logical cores.
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

/** Free bytes of the file system of a folder, which need not exist yet. */
export function freeDiskBytes(folder: string): number {
  let existing = resolve(folder);
  while (!existsSync(existing)) existing = dirname(existing);
  const { bavail, bsize } = statfsSync(existing);
  return bavail * bsize;
}

/** Lowest compute capability that the cuda backend supports. */
const LEAST_CAPABILITY = 8;

/**
 * The GPUs that this process may train on, in the notation of CUDA_VISIBLE_DEVICES. If the variable is set, its entries up
 * to the first invalid one, as in CUDA; otherwise every GPU that nvidia-smi lists and the cuda backend supports.
 */
export function visibleGpus(
  visible: string | undefined = process.env.CUDA_VISIBLE_DEVICES,
  list: () => Gpu[] = nvidiaGpus,
): string[] {
  if (visible === undefined) {
    const usable = list().filter(({ computeCapability }) => Number(computeCapability) >= LEAST_CAPABILITY);
    return usable.map(({ uuid }) => uuid);
  }
  const words = visible.split(',').map((word) => word.trim());
  const end = words.findIndex((word) => !/^(\d+|(GPU|MIG)-.+)$/.test(word));
  return end === -1 ? words : words.slice(0, end);
}

const QUERY = [
  '--query-gpu=uuid,name,driver_version,memory.total,compute_cap',
  '--format=csv,noheader,nounits',
];

/** The GPUs that nvidia-smi lists; none if it is missing or fails. */
function nvidiaGpus(): Gpu[] {
  try {
    return parseGpus(
      execFileSync('nvidia-smi', QUERY, {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
        timeout: 20_000,
      }),
    );
  } catch {
    return [];
  }
}

/** Parses lines of nvidia-smi: UUID, name, driver, MiB, compute capability. */
export function parseGpus(printed: string): Gpu[] {
  return printed.split('\n').flatMap((line) => {
    const [uuid, name, driver, mebibytes, computeCapability] = line.split(', ');
    if (uuid === undefined || name === undefined || driver === undefined || computeCapability === undefined)
      return [];
    return [{ uuid, name, driver, memoryBytes: Number(mebibytes) * 2 ** 20, computeCapability }];
  });
}

function readCpuinfo(): string | null {
  try {
    return readFileSync('/proc/cpuinfo', 'utf8');
  } catch {
    return null;
  }
}
