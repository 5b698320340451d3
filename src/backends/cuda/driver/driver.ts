/** The CUDA driver API through koffi: context, memory, stream, events, modules, launches and graphs. */

import { DeviceError, DeviceMemoryError } from '../../../errors.js';
import { koffi } from '../../../ffi.js';

/** A device address or a handle of the driver: below 2^53 on every platform that CUDA supports. */
export type Address = number;

export class CudaError extends DeviceError {
  override readonly name = 'CudaError';
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

const CUDA_ERROR_OUT_OF_MEMORY = 2;
const CUDA_ERROR_NOT_READY = 600;
/** Free bytes below which a library's call that fails without a reason is out of memory: its kernels need some to load. */
const LEAST_FREE = 128 * 2 ** 20;
/** Compute capability 8.0 (Ampere) is the first whose tensor cores support bf16. */
const OLDEST_COMPUTE_CAPABILITY = 80;
/** The API version of CUDA 12's first driver. */
const OLDEST_DRIVER = 12000;

const DEVICE_ATTRIBUTE = { multiprocessors: 16, major: 75, minor: 76, sharedMemoryOptIn: 97 } as const;
const NON_BLOCKING = 1;
const DISABLE_TIMING = 2;
const MAX_DYNAMIC_SHARED = 8;

function bind(path: string) {
  const lib = koffi.load(path, { global: true });
  const f = (definition: string) => lib.func(`int ${definition}`) as (...args: unknown[]) => number;
  return {
    init: f('cuInit(uint32_t flags)'),
    driverVersion: f('cuDriverGetVersion(_Out_ int *version)'),
    deviceCount: f('cuDeviceGetCount(_Out_ int *count)'),
    device: f('cuDeviceGet(_Out_ int *device, int ordinal)'),
    deviceName: f('cuDeviceGetName(void *name, int length, int device)'),
    deviceAttribute: f('cuDeviceGetAttribute(_Out_ int *value, int attribute, int device)'),
    retainContext: f('cuDevicePrimaryCtxRetain(_Out_ uint64_t *context, int device)'),
    setContext: f('cuCtxSetCurrent(uint64_t context)'),
    errorName: f('cuGetErrorName(int code, _Out_ str *name)'),
    errorString: f('cuGetErrorString(int code, _Out_ str *text)'),
    memoryInfo: f('cuMemGetInfo_v2(_Out_ size_t *free, _Out_ size_t *total)'),
    allocate: f('cuMemAlloc_v2(_Out_ uint64_t *address, size_t bytes)'),
    free: f('cuMemFree_v2(uint64_t address)'),
    allocateHost: f('cuMemHostAlloc(_Out_ uint64_t *address, size_t bytes, uint32_t flags)'),
    freeHost: f('cuMemFreeHost(uint64_t address)'),
    copyToDevice: f('cuMemcpyHtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, uint64_t stream)'),
    copyToHost: f('cuMemcpyDtoHAsync_v2(uint64_t to, uint64_t from, size_t bytes, uint64_t stream)'),
    copyOnDevice: f('cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, uint64_t stream)'),
    fill8: f('cuMemsetD8Async(uint64_t to, uint8_t value, size_t bytes, uint64_t stream)'),
    streamCreate: f('cuStreamCreate(_Out_ uint64_t *stream, uint32_t flags)'),
    streamSynchronize: f('cuStreamSynchronize(uint64_t stream)'),
    eventCreate: f('cuEventCreate(_Out_ uint64_t *event, uint32_t flags)'),
    eventDestroy: f('cuEventDestroy_v2(uint64_t event)'),
    eventRecord: f('cuEventRecord(uint64_t event, uint64_t stream)'),
    eventRecordWithFlags: f('cuEventRecordWithFlags(uint64_t event, uint64_t stream, uint32_t flags)'),
    eventQuery: f('cuEventQuery(uint64_t event)'),
    eventElapsed: f('cuEventElapsedTime(_Out_ float *ms, uint64_t start, uint64_t end)'),
    moduleLoad: f('cuModuleLoadData(_Out_ uint64_t *module, void *image)'),
    moduleFunction: f('cuModuleGetFunction(_Out_ uint64_t *function, uint64_t module, str name)'),
    functionAttribute: f('cuFuncSetAttribute(uint64_t function, int attribute, int value)'),
    launch: f(
      'cuLaunchKernel(uint64_t function, uint32_t gx, uint32_t gy, uint32_t gz, uint32_t bx, uint32_t by, ' +
        'uint32_t bz, uint32_t shared, uint64_t stream, uint64_t parameters, uint64_t extra)',
    ),
    launchCooperative: f(
      'cuLaunchCooperativeKernel(uint64_t function, uint32_t gx, uint32_t gy, uint32_t gz, uint32_t bx, uint32_t by, ' +
        'uint32_t bz, uint32_t shared, uint64_t stream, uint64_t parameters)',
    ),
    beginCapture: f('cuStreamBeginCapture_v2(uint64_t stream, int mode)'),
    endCapture: f('cuStreamEndCapture(uint64_t stream, _Out_ uint64_t *graph)'),
    graphInstantiate: f(
      'cuGraphInstantiateWithFlags(_Out_ uint64_t *executable, uint64_t graph, uint64_t flags)',
    ),
    graphLaunch: f('cuGraphLaunch(uint64_t executable, uint64_t stream)'),
    graphDestroy: f('cuGraphDestroy(uint64_t graph)'),
    graphExecDestroy: f('cuGraphExecDestroy(uint64_t executable)'),
  };
}

/** The primary context of one GPU, current on this thread, and the one stream on which all work runs. */
export class Driver {
  readonly deviceName: string;
  /** 90 for compute capability 9.0. */
  readonly architecture: number;
  readonly multiprocessors: number;
  /** Bytes of shared memory that a block may use by opting in. */
  readonly sharedMemory: number;
  readonly driverVersion: number;
  readonly stream: Address;
  private readonly cu: ReturnType<typeof bind>;
  /** The event that synchronizeWithin waits for. */
  private waitEvent: Address | null = null;
  /** The launch that did not finish in time; null if there is none. */
  private hungLaunch: string | null = null;
  /** Called when the device lacks memory for something other than an allocation, before the error is thrown. */
  whenMemoryIsFull: () => void = () => undefined;
  /** Bytes that this process may allocate, for tests of small GPUs on large ones. */
  memoryLimit = Number.POSITIVE_INFINITY;
  /** Bytes of each allocation of this process, by address. */
  private readonly allocations = new Map<Address, number>();
  private allocatedBytes = 0;

  /** @throws CudaError if the driver or the GPU is missing or too old, with a message for the user */
  constructor(path: string, ordinal = 0) {
    this.cu = bind(path);
    const started = this.cu.init(0);
    if (started !== 0) throw new CudaError(started, `no usable NVIDIA GPU: ${this.describe(started)}`);
    this.driverVersion = this.get(this.cu.driverVersion);
    if (this.driverVersion < OLDEST_DRIVER) {
      throw new CudaError(
        0,
        `the NVIDIA driver supports CUDA ${cudaVersion(this.driverVersion)}; 12.0 or later is required`,
      );
    }
    const count = this.get(this.cu.deviceCount);
    if (count === 0) throw new CudaError(0, 'the NVIDIA driver is installed but finds no GPU');
    const device = this.get(this.cu.device, ordinal);
    const name = Buffer.alloc(256);
    this.check(this.cu.deviceName(name, name.length, device), 'cuDeviceGetName');
    this.deviceName = name.toString('utf8', 0, name.indexOf(0));
    const attribute = (which: number) => this.get(this.cu.deviceAttribute, which, device);
    this.architecture = 10 * attribute(DEVICE_ATTRIBUTE.major) + attribute(DEVICE_ATTRIBUTE.minor);
    this.multiprocessors = attribute(DEVICE_ATTRIBUTE.multiprocessors);
    this.sharedMemory = attribute(DEVICE_ATTRIBUTE.sharedMemoryOptIn);
    if (this.architecture < OLDEST_COMPUTE_CAPABILITY) {
      throw new CudaError(
        0,
        `${this.deviceName} has compute capability ${this.architecture / 10}; 8.0 (Ampere) or later is required`,
      );
    }
    const context = this.get(this.cu.retainContext, device);
    this.check(this.cu.setContext(context), 'cuCtxSetCurrent');
    this.stream = this.get(this.cu.streamCreate, NON_BLOCKING);
  }

  /**
   * Throws unless the code is 0, with the call and the error.
   *
   * @throws DeviceMemoryError if the device is out of memory, which graphs and modules need as well
   * @throws CudaError otherwise
   */
  check(code: number, what: string): void {
    if (code === 0) return;
    const message = `${what}: ${this.describe(code)}`;
    throw code === CUDA_ERROR_OUT_OF_MEMORY ? this.outOfMemory(message) : new CudaError(code, message);
  }

  /** The error for a lack of memory that a library has met. */
  outOfMemory(what: string): DeviceMemoryError {
    this.whenMemoryIsFull();
    return new DeviceMemoryError(`out of GPU memory: ${what}`);
  }

  /** Free and total bytes of device memory, or of what this process may allocate of it. */
  memoryInfo(): { free: number; total: number } {
    const [free, total] = [[0], [0]];
    this.check(this.cu.memoryInfo(free, total), 'cuMemGetInfo');
    return {
      free: Math.min(Number(free[0]), this.memoryLimit - this.allocatedBytes),
      total: Math.min(Number(total[0]), this.memoryLimit),
    };
  }

  /** Whether the device has no memory left with which a library could load its kernels. */
  isMemoryFull(): boolean {
    try {
      return this.memoryInfo().free < LEAST_FREE;
    } catch {
      return false; // the device is lost
    }
  }

  /** Device memory; null if out of memory. */
  allocate(bytes: number): Address | null {
    if (this.allocatedBytes + bytes > this.memoryLimit) return null;
    const out = [0];
    const code = this.cu.allocate(out, bytes);
    if (code === CUDA_ERROR_OUT_OF_MEMORY) return null;
    this.check(code, `cuMemAlloc of ${bytes} bytes`);
    const address = Number(out[0]);
    this.allocations.set(address, bytes);
    this.allocatedBytes += bytes;
    return address;
  }

  free(address: Address): void {
    this.check(this.cu.free(address), 'cuMemFree');
    this.allocatedBytes -= this.allocations.get(address) ?? 0;
    this.allocations.delete(address);
  }

  /** Pinned host memory, which the device copies from and to directly. */
  allocateHost(bytes: number): Address {
    const out = [0];
    const code = this.cu.allocateHost(out, bytes, 0);
    // The machine's memory, not the device's: a smaller micro-batch is no remedy.
    if (code !== 0) throw new CudaError(code, `cannot pin ${bytes} bytes of memory: ${this.describe(code)}`);
    return Number(out[0]);
  }

  copyToDevice(to: Address, from: Address, bytes: number): void {
    this.check(this.cu.copyToDevice(to, from, bytes, this.stream), 'copying to the device');
  }

  copyToHost(to: Address, from: Address, bytes: number): void {
    this.check(this.cu.copyToHost(to, from, bytes, this.stream), 'copying from the device');
  }

  copyOnDevice(to: Address, from: Address, bytes: number): void {
    this.check(this.cu.copyOnDevice(to, from, bytes, this.stream), 'copying on the device');
  }

  zero(to: Address, bytes: number): void {
    if (bytes > 0) this.check(this.cu.fill8(to, 0, bytes, this.stream), 'cuMemsetD8');
  }

  /** Waits for the stream, blocking this thread; throws errors of earlier launches. */
  synchronize(): void {
    this.check(this.cu.streamSynchronize(this.stream), 'the device');
  }

  /** `synchronize` for checked launches: throws if the stream is still busy after `seconds`; `what` names the launch. */
  synchronizeWithin(seconds: number, what: string): void {
    this.waitEvent ??= this.event();
    this.record(this.waitEvent);
    const deadline = performance.now() + 1000 * seconds;
    while (!this.reached(this.waitEvent)) {
      if (performance.now() < deadline && this.hungLaunch === null) continue;
      this.hungLaunch ??= what; // no later work will start: later calls fail without waiting
      throw new CudaError(0, `${this.hungLaunch} did not finish within ${seconds} s`);
    }
  }

  event(timing = false): Address {
    return this.get(this.cu.eventCreate, timing ? 0 : DISABLE_TIMING);
  }

  record(event: Address): void {
    this.check(this.cu.eventRecord(event, this.stream), 'cuEventRecord');
  }

  /** For use during capture: each launch of the graph records the event. */
  recordInGraph(event: Address): void {
    const external = 1;
    this.check(this.cu.eventRecordWithFlags(event, this.stream, external), 'cuEventRecordWithFlags');
  }

  /** Whether all work before the event has finished; throws errors of that work. */
  reached(event: Address): boolean {
    const code = this.cu.eventQuery(event);
    if (code === CUDA_ERROR_NOT_READY) return false;
    this.check(code, 'the device');
    return true;
  }

  destroyEvent(event: Address): void {
    this.check(this.cu.eventDestroy(event), 'cuEventDestroy');
  }

  /** Milliseconds between two recorded events, both reached. */
  elapsed(start: Address, end: Address): number {
    return this.get(this.cu.eventElapsed, start, end);
  }

  loadModule(image: Uint8Array): Address {
    return this.get(this.cu.moduleLoad, image);
  }

  /** A kernel of a module. */
  kernel(module: Address, name: string): Address {
    return this.get(this.cu.moduleFunction, module, name);
  }

  /** Opts a kernel in to more shared memory than the default. */
  allowSharedMemory(kernel: Address, bytes: number): void {
    this.check(this.cu.functionAttribute(kernel, MAX_DYNAMIC_SHARED, bytes), 'cuFuncSetAttribute');
  }

  launch(
    kernel: Address,
    [gx, gy, gz]: readonly [number, number, number],
    block: number,
    shared: number,
    extra: Address,
    name: string,
  ): void {
    const code = this.cu.launch(kernel, gx, gy, gz, block, 1, 1, shared, this.stream, 0, extra);
    if (code !== 0) this.check(code, `launching ${name} on a grid of ${gx}×${gy}×${gz}, blocks of ${block}`);
  }

  /** Launches blocks that are all resident at once, so that they can wait for each other; throws if they do not fit. */
  launchCooperative(
    kernel: Address,
    grid: number,
    block: number,
    shared: number,
    parameters: Address,
    name: string,
  ): void {
    const code = this.cu.launchCooperative(kernel, grid, 1, 1, block, 1, 1, shared, this.stream, parameters);
    if (code !== 0) this.check(code, `launching ${name} cooperatively, ${grid} blocks of ${block}`);
  }

  /** Starts a capture: until endCapture, launches are captured and not run. */
  beginCapture(): void {
    const relaxed = 2; // allows allocations during capture
    this.check(this.cu.beginCapture(this.stream, relaxed), 'cuStreamBeginCapture');
  }

  /** Ends a capture; returns the executable graph of the captured work. */
  endCapture(): Address {
    const captured = [0];
    this.check(this.cu.endCapture(this.stream, captured), 'cuStreamEndCapture');
    const graph = Number(captured[0]);
    try {
      const executable = [0];
      this.check(this.cu.graphInstantiate(executable, graph, 0), 'cuGraphInstantiate');
      return Number(executable[0]);
    } finally {
      this.check(this.cu.graphDestroy(graph), 'cuGraphDestroy');
    }
  }

  /** Ends a capture that failed, if it has not ended yet. */
  abandonCapture(): void {
    const captured = [0];
    const code = this.cu.endCapture(this.stream, captured);
    // A capture that the driver has invalidated has no graph.
    if (code === 0 && captured[0] !== 0) this.cu.graphDestroy(Number(captured[0]));
  }

  launchGraph(executable: Address): void {
    this.check(this.cu.graphLaunch(executable, this.stream), 'cuGraphLaunch');
  }

  destroyGraph(executable: Address): void {
    this.check(this.cu.graphExecDestroy(executable), 'cuGraphExecDestroy');
  }

  /** The result of a call that writes it to its first parameter. */
  private get(call: (...args: unknown[]) => number, ...args: unknown[]): number {
    const out = [0];
    this.check(call(out, ...args), 'CUDA');
    return Number(out[0]);
  }

  private describe(code: number): string {
    const [name, text] = [[''], ['']];
    if (this.cu.errorName(code, name) !== 0) return `error ${code}`;
    this.cu.errorString(code, text);
    return `${name[0]} (${text[0]})`;
  }
}

/** The CUDA version in an API version number: '12.4' for 12040. */
export function cudaVersion(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
}
