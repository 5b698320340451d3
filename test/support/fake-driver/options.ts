/** What the fake driver presents: its GPUs, and the calls that fail. Plain data, so that it also reaches child processes. */

export interface FakeGpuOptions {
  name: string;
  totalBytes: number;
  /** Bytes that other processes use. */
  othersBytes: number;
  /** Compute capability, as 90. */
  architecture: number;
  multiprocessors: number;
}

/**
 * Failing calls. The calls of `call` are counted in each process from its start, or from `FakeDriver.fail` on; those from the
 * `nth` on fail, `times` of them.
 */
export interface Fault {
  /** The native function by its C name, such as cuMemAlloc_v2, cuGraphInstantiateWithFlags, cublasLtMatmul. */
  call: string;
  /** Default 1. */
  nth?: number;
  /** Default 1; Infinity does not survive JSON: use a large number. */
  times?: number;
  /** Counts only calls that allocate more than this many bytes. */
  above?: number;
  /** Counts only calls while less than this many bytes of the GPU are free. */
  freeBelow?: number;
  /** Index of the GPU; default every GPU. */
  gpu?: number;
  /** What the call returns; default its library's code for out of memory. */
  code?: number;
  /**
   * `lost`: from here on every call to the device fails with this code. `hung`: this call succeeds, but no event completes
   * any more, and calls that wait do not return. Both last for later processes too if the options have a `folder`.
   */
  leaves?: 'lost' | 'hung';
}

export interface FakeDriverOptions {
  gpus: Partial<FakeGpuOptions>[];
  faults: Fault[];
  /** Memory of a process's context, in bytes. */
  contextBytes: number;
  /** Time that the device takes for each graph launch, in milliseconds. */
  graphMs: number;
  /** What is read from the device: zeros, or floats in [-1, 1), about half of them positive. */
  reads: 'zeros' | 'noise';
  /** Folder for the state of GPUs between processes and for a report of each process; null: neither. */
  folder: string | null;
}

export const DEFAULT_GPU: FakeGpuOptions = {
  name: 'NVIDIA H100 80GB HBM3',
  totalBytes: 80 * 2 ** 30,
  othersBytes: 0,
  architecture: 90,
  multiprocessors: 132,
};

export const DEFAULT_OPTIONS: FakeDriverOptions = {
  gpus: [{}],
  faults: [],
  contextBytes: 512 * 2 ** 20,
  graphMs: 0,
  reads: 'zeros',
  folder: null,
};

/** The name of a GPU in CUDA_VISIBLE_DEVICES. */
export function uuidOf(index: number): string {
  return `GPU-fake-${index}`;
}

/** The indices of the GPUs that CUDA shows to a process, in the notation of CUDA_VISIBLE_DEVICES. */
export function visibleIndices(count: number, visible: string | undefined): number[] {
  const all = Array.from({ length: count }, (_, i) => i);
  if (visible === undefined) return all;
  const indices = visible.split(',').map((word) => all.find((i) => word === uuidOf(i) || word === `${i}`));
  const end = indices.indexOf(undefined);
  return (end === -1 ? indices : indices.slice(0, end)) as number[];
}
