/** Describes this machine: processor, memory, disk, GPUs. Reads the operating system and nvidia-smi; loads no libraries. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statfsSync } from 'node:fs';
import { availableParallelism, cpus, freemem, homedir, totalmem } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';

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

/**
 * The folder of this program in the user's cache: `$XDG_CACHE_HOME/mod`, otherwise `~/.cache/mod`; null for a user without a
 * home folder, as in a container that runs under a bare number. A relative path is none (XDG Base Directory Specification).
 */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string | null {
  const { XDG_CACHE_HOME = '' } = env;
  if (isAbsolute(XDG_CACHE_HOME)) return join(XDG_CACHE_HOME, 'mod');
  try {
    const home = homedir();
    return isAbsolute(home) ? join(home, '.cache', 'mod') : null;
  } catch {
    return null; // no HOME, and no entry for this user in the user database
  }
}

/** Files that this process may have open at a time, `ulimit -n`; infinity where Linux does not say. */
export function openFileLimit(limits: string | null = readLimits()): number {
  const [, soft] = /^Max open files +(\d+)/m.exec(limits ?? '') ?? [];
  return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
}

function readLimits(): string | null {
  try {
    return readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return null;
  }
}

/** Whether an output redraws lines in place: a terminal that moves its cursor, which TERM=dumb does not. */
export function movesCursor(out: { isTTY?: boolean }, env: NodeJS.ProcessEnv = process.env): boolean {
  return out.isTTY === true && env.TERM !== 'dumb';
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

/** Memory of one process of another program from which its GPU counts as in use; a display server or MPS has less. */
const PROCESS_IN_USE = 256 * 2 ** 20;
/** Memory in use on a GPU whose processes are invisible, as in containers, from which it counts as in use. */
const GPU_IN_USE = 2 * 2 ** 30;

/**
 * The GPUs that other processes use, and the bytes of their memory in use. A GPU whose use is unknown counts as free. Called
 * before any process of this program uses them.
 *
 * @param gpus in the notation of CUDA_VISIBLE_DEVICES
 */
export function gpusInUse(
  gpus: readonly string[],
  query: (what: string) => string[][] = queryGpus,
  order: string | undefined = process.env.CUDA_DEVICE_ORDER,
): Map<string, number> {
  if (gpus.length === 0) return new Map();
  const rows = query('gpu=uuid,memory.used,name');
  const processes = query('compute-apps=gpu_uuid,used_memory');
  // CUDA numbers GPUs of several kinds by their speed, nvidia-smi by their place on the bus.
  const isOrdered = order === 'PCI_BUS_ID' || new Set(rows.map(([, , name]) => name)).size === 1;
  const rowOf = (gpu: string) => {
    if (/^\d+$/.test(gpu)) return isOrdered ? rows[Number(gpu)] : undefined;
    return rows.find(([uuid]) => uuid?.startsWith(gpu));
  };
  const inUse = new Map<string, number>();
  for (const gpu of gpus) {
    const [uuid, used] = rowOf(gpu) ?? [];
    const bytes = Number(used) * 2 ** 20;
    const isInUse = processes.some(([of, mib]) => of === uuid && Number(mib) * 2 ** 20 >= PROCESS_IN_USE);
    if (bytes >= GPU_IN_USE || isInUse) inUse.set(gpu, bytes);
  }
  return inUse;
}

/** Rows of a query of nvidia-smi, in MiB; none if it is missing or fails. */
function queryGpus(what: string): string[][] {
  const lines = nvidiaSmi([`--query-${what}`, '--format=csv,noheader,nounits']).split('\n');
  return lines.filter((line) => line !== '').map((line) => line.split(', '));
}

const QUERY = [
  '--query-gpu=uuid,name,driver_version,memory.total,compute_cap',
  '--format=csv,noheader,nounits',
];

/** The GPUs that nvidia-smi lists; none if it is missing or fails. */
function nvidiaGpus(): Gpu[] {
  return parseGpus(nvidiaSmi(QUERY));
}

/** What nvidia-smi prints; nothing if it is missing or fails. */
function nvidiaSmi(args: string[]): string {
  try {
    return execFileSync('nvidia-smi', args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 20_000,
    });
  } catch {
    return '';
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
