/** The fake of libcuda: it counts memory and calls, computes nothing, and checks that work uses memory that is allocated. */
import { type Allocation, CODES, type FakeDevice, type Range } from './device.js';
import type { HostMemory, NativeFunctions } from './native.js';

const ERRORS: Record<number, [name: string, text: string]> = {
  [CODES.invalidValue]: ['CUDA_ERROR_INVALID_VALUE', 'invalid argument'],
  [CODES.outOfMemory]: ['CUDA_ERROR_OUT_OF_MEMORY', 'out of memory'],
  [CODES.deviceUnavailable]: [
    'CUDA_ERROR_DEVICE_UNAVAILABLE',
    'CUDA-capable device(s) is/are busy or unavailable',
  ],
  [CODES.captureUnsupported]: [
    'CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED',
    'operation not permitted when stream is capturing',
  ],
  [CODES.unknown]: ['CUDA_ERROR_UNKNOWN', 'unknown error'],
  214: ['CUDA_ERROR_ECC_UNCORRECTABLE', 'uncorrectable ECC error encountered'],
  700: ['CUDA_ERROR_ILLEGAL_ADDRESS', 'an illegal memory access was encountered'],
  719: ['CUDA_ERROR_LAUNCH_FAILED', 'unspecified launch failure'],
};

/** cuDeviceGetAttribute: multiprocessors, compute capability, shared memory of a block that opts in. */
const ATTRIBUTES = { multiprocessors: 16, major: 75, minor: 76, sharedMemoryOptIn: 97 } as const;
const SHARED_MEMORY = 232_448;

/** The stream's work: when it is done, and what a capture has recorded. */
export class FakeStream {
  private busyUntil = 0;
  private captured: Set<Allocation> | null = null;
  /** When the work before each event is done, and whether the event was recorded on a GPU that hangs. */
  private readonly events = new Map<number, { time: number; isHung: boolean }>();
  private readonly graphs = new Map<number, Set<Allocation>>();
  private readonly executables = new Map<number, Set<Allocation>>();
  private intervals = 0;

  constructor(private readonly device: FakeDevice) {}

  get isCapturing(): boolean {
    return this.captured !== null;
  }

  /** Queues work that uses these parts of device memory. */
  run(ranges: readonly Range[], what: string): void {
    for (const range of ranges) {
      if (range.bytes === 0) continue;
      const owner = this.device.owner(range, what);
      this.captured?.add(owner);
    }
  }

  begin(): void {
    this.captured = new Set();
  }

  /** Ends a capture; the handle of its graph, or null without a capture. */
  end(): number | null {
    if (this.captured === null) return null;
    const graph = this.device.handle();
    this.graphs.set(graph, this.captured);
    this.device.alive.graph.add(graph);
    this.captured = null;
    return graph;
  }

  instantiate(graph: number): number {
    const executable = this.device.handle();
    this.executables.set(executable, this.graphs.get(graph) ?? new Set());
    this.device.alive.executable.add(executable);
    return executable;
  }

  destroyGraph(graph: number): void {
    this.graphs.delete(graph);
    this.device.alive.graph.delete(graph);
  }

  destroyExecutable(executable: number): void {
    this.executables.delete(executable);
    this.device.alive.executable.delete(executable);
  }

  launchGraph(executable: number): void {
    const uses = this.executables.get(executable);
    if (uses === undefined) throw new Error('a graph was launched that does not exist');
    for (const { live } of uses) {
      if (!live) throw new Error('a graph was launched that uses memory which has been freed');
    }
    this.busyUntil = Math.max(this.busyUntil, performance.now()) + this.device.options.graphMs;
  }

  record(event: number): void {
    this.events.set(event, { time: this.busyUntil, isHung: this.device.state === 'hung' });
  }

  isReached(event: number): boolean {
    const { time, isHung } = this.events.get(event) ?? { time: 0, isHung: false };
    return performance.now() >= time && !(isHung && this.device.state === 'hung');
  }

  forget(event: number): void {
    this.events.delete(event);
  }

  /** A different time for each interval, so that measured choices are the same in every process. */
  elapsed(): number {
    this.intervals += 1;
    return 1 + 1e-6 * this.intervals;
  }

  wait(what: string): void {
    this.device.wait(what);
    const left = this.busyUntil - performance.now();
    if (left > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, left);
  }
}

/** The functions of libcuda.so.1 that src/backends/cuda calls. */
export function cudaFunctions(device: FakeDevice, stream: FakeStream, host: HostMemory): NativeFunctions {
  const { alive } = device;
  const ok = () => 0;
  const give = (out: number[], value: number) => {
    out[0] = value;
    return 0;
  };
  /** Work that may run in a capture; `ranges` is its device memory. */
  const work = (what: string, ...ranges: Range[]) => {
    stream.run(ranges, what);
    return 0;
  };
  const kernels = new Map<number, string>();
  return {
    cuInit: ok,
    cuDriverGetVersion: (out: number[]) => give(out, 13_000),
    cuDeviceGetCount: (out: number[]) => give(out, device.visible.length),
    cuDeviceGet: (out: number[], ordinal: number) =>
      ordinal < device.visible.length ? give(out, ordinal) : CODES.invalidValue,
    cuDeviceGetName: (name: Uint8Array) => {
      name.set(Buffer.from(`${device.gpu.name}\0`));
      return 0;
    },
    cuDeviceGetUuid_v2: (uuid: Uint8Array, ordinal: number) => {
      uuid.fill(0);
      uuid[0] = (device.visible[ordinal] ?? 0) + 1;
      return 0;
    },
    cuDeviceGetAttribute: (out: number[], attribute: number) => {
      const { architecture, multiprocessors } = device.gpu;
      const values: Record<number, number> = {
        [ATTRIBUTES.multiprocessors]: multiprocessors,
        [ATTRIBUTES.major]: Math.floor(architecture / 10),
        [ATTRIBUTES.minor]: architecture % 10,
        [ATTRIBUTES.sharedMemoryOptIn]: SHARED_MEMORY,
      };
      const value = values[attribute];
      if (value === undefined) throw new Error(`the fake driver has no device attribute ${attribute}`);
      return give(out, value);
    },
    cuDevicePrimaryCtxRetain: (out: number[], ordinal: number) =>
      device.open(ordinal) || give(out, device.handle()),
    cuCtxSetCurrent: ok,
    cuGetErrorName: (code: number, out: string[]) => {
      out[0] = ERRORS[code]?.[0] ?? `CUDA_ERROR_${code}`;
      return 0;
    },
    cuGetErrorString: (code: number, out: string[]) => {
      out[0] = ERRORS[code]?.[1] ?? `error ${code}`;
      return 0;
    },
    cuMemGetInfo_v2: (free: number[], total: number[]) => {
      free[0] = device.freeBytes;
      return give(total, device.gpu.totalBytes);
    },
    cuMemAlloc_v2: (out: number[], bytes: number) => {
      const address = device.allocate(Number(bytes));
      return address === null ? CODES.outOfMemory : give(out, address);
    },
    cuMemFree_v2: (address: number) => {
      device.free(Number(address));
      return 0;
    },
    cuMemHostAlloc: (out: number[], bytes: number) => give(out, host.allocate(Number(bytes))),
    cuMemFreeHost: ok,
    cuMemcpyHtoDAsync_v2: (to: number, _from: number, bytes: number) =>
      work('a copy to the device', { address: Number(to), bytes: Number(bytes) }),
    cuMemcpyDtoHAsync_v2: (to: number, from: number, bytes: number) => {
      work('a copy from the device', { address: Number(from), bytes: Number(bytes) });
      if (device.read !== null) device.read(host.bytes(Number(to), Number(bytes)), Number(from));
      return 0;
    },
    cuMemcpyDtoDAsync_v2: (to: number, from: number, bytes: number) =>
      work(
        'a copy on the device',
        { address: Number(to), bytes: Number(bytes) },
        { address: Number(from), bytes: Number(bytes) },
      ),
    cuMemsetD8Async: (to: number, _value: number, bytes: number) =>
      work('cuMemsetD8', { address: Number(to), bytes: Number(bytes) }),
    cuStreamCreate: (out: number[]) => give(out, device.handle()),
    cuStreamSynchronize: () => {
      if (stream.isCapturing) return CODES.captureUnsupported;
      stream.wait('cuStreamSynchronize');
      return 0;
    },
    cuEventCreate: (out: number[]) => {
      const event = device.handle();
      alive.event.add(event);
      return give(out, event);
    },
    cuEventDestroy_v2: (event: number) => {
      alive.event.delete(event);
      stream.forget(event);
      return 0;
    },
    cuEventRecord: (event: number) => {
      stream.record(event);
      return 0;
    },
    cuEventRecordWithFlags: (event: number) => {
      stream.record(event);
      return 0;
    },
    cuEventQuery: (event: number) => {
      if (stream.isCapturing) return CODES.captureUnsupported;
      return stream.isReached(event) ? 0 : CODES.notReady;
    },
    cuEventElapsedTime: (out: number[]) => give(out, stream.elapsed()),
    cuModuleLoadData: (out: number[]) => give(out, device.handle()),
    cuModuleGetFunction: (out: number[], _module: number, name: string) => {
      const kernel = device.handle();
      kernels.set(kernel, name);
      return give(out, kernel);
    },
    cuFuncSetAttribute: ok,
    cuFuncGetAttribute: (out: number[]) => give(out, 0),
    cuLaunchKernel: (kernel: number, ...rest: unknown[]) => {
      const name = kernels.get(Number(kernel));
      if (name === undefined) throw new Error('a kernel was launched that was not loaded');
      const addresses = host.launchArguments(Number(rest.at(-1))).filter((word) => device.isAddress(word));
      return work(`the kernel ${name}`, ...addresses.map((address) => ({ address, bytes: 1 })));
    },
    cuLaunchCooperativeKernel: ok,
    cuStreamBeginCapture_v2: () => {
      stream.begin();
      return 0;
    },
    cuStreamEndCapture: (_stream: number, out: number[]) => {
      const graph = stream.end();
      return graph === null ? CODES.illegalState : give(out, graph);
    },
    cuGraphInstantiateWithFlags: (out: number[], graph: number) =>
      give(out, stream.instantiate(Number(graph))),
    cuGraphLaunch: (executable: number) => {
      stream.launchGraph(Number(executable));
      return 0;
    },
    cuGraphDestroy: (graph: number) => {
      stream.destroyGraph(Number(graph));
      return 0;
    },
    cuGraphExecDestroy: (executable: number) => {
      stream.destroyExecutable(Number(executable));
      return 0;
    },
  };
}
