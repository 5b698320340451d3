/** The state of the fake driver in one process: its GPU's memory, the calls so far, and the faults that are still to come. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  DEFAULT_GPU,
  type FakeDriverOptions,
  type FakeGpuOptions,
  type Fault,
  visibleIndices,
} from './options.js';

/** An allocation of device memory. */
export interface Allocation {
  address: number;
  bytes: number;
  live: boolean;
}

/** A part of device memory that a call reads or writes. */
export interface Range {
  address: number;
  bytes: number;
}

/** CUresult, cublasStatus_t and cudnnStatus_t. */
export const CODES = {
  invalidValue: 1,
  outOfMemory: 2,
  deviceUnavailable: 46,
  illegalState: 401,
  notReady: 600,
  captureUnsupported: 900,
  unknown: 999,
} as const;
const OUT_OF_MEMORY = { cu: CODES.outOfMemory, cublas: 3, cudnn: 4004 } as const;
/** What cuBLASLt and cuDNN return on a GPU that is lost. */
const LOST = { cublas: 13, cudnn: 5001 } as const;

/** cuMemAlloc reserves whole pages of this size. */
const PAGE = 2 * 2 ** 20;
/** Addresses that no other memory of a process has, below 2^53; the upper half is no likely pair of int32 arguments. */
const FIRST_ADDRESS = 0x1abcde * 2 ** 32;
/** Never allocated, so that work past the end of an allocation is noticed. */
const GUARD = PAGE;

type Library = keyof typeof OUT_OF_MEMORY;

export class FakeDevice {
  readonly gpu: FakeGpuOptions;
  /** Indices of the GPUs that this process sees. */
  readonly visible: number[];
  /** Number of calls of each native function. */
  readonly calls = new Map<string, number>();
  /** Device memory of this process, without its context. */
  allocatedBytes = 0;
  peakAllocatedBytes = 0;
  /** Events, graphs and executable graphs that have not been destroyed. */
  readonly alive = { event: new Set<number>(), graph: new Set<number>(), executable: new Set<number>() };
  /** Sees every call before it is made. */
  observe: ((name: string, args: readonly unknown[]) => void) | null = null;
  /** Fills what is read from the device; it is zero otherwise. */
  read: ((bytes: Uint8Array, from: number) => void) | null = null;
  state: 'well' | 'lost' | 'hung' = 'well';
  private readonly faults: { fault: Fault; seen: number }[];
  private index = 0;
  private lostCode: number = CODES.unknown;
  private readonly allocations: Allocation[] = [];
  private nextAddress = FIRST_ADDRESS;
  private nextHandle = 1;
  private contextExists = false;

  constructor(
    readonly options: FakeDriverOptions,
    /** Whether calls to a hung GPU block this thread for ever, as they do; else they throw. */
    readonly blocks: boolean,
  ) {
    this.visible = visibleIndices(options.gpus.length, process.env.CUDA_VISIBLE_DEVICES);
    this.gpu = { ...DEFAULT_GPU, ...options.gpus[this.visible[0] ?? 0] };
    this.faults = options.faults.map((fault) => ({ fault, seen: 0 }));
  }

  /** Makes calls fail from now on. */
  fail(fault: Fault): void {
    this.faults.push({ fault, seen: 0 });
  }

  /** Calls fail no more. */
  heal(): void {
    this.faults.length = 0;
    this.state = 'well';
  }

  /** Opens a GPU that the process sees; the result is a code. */
  open(ordinal: number): number {
    this.index = this.visible[ordinal] ?? 0;
    Object.assign(this.gpu, { ...DEFAULT_GPU, ...this.options.gpus[this.index] });
    this.contextExists = true;
    const state = (['lost', 'hung'] as const).find((kind) => this.marked(kind));
    if (state !== undefined) this.state = state;
    return this.state === 'lost' ? CODES.deviceUnavailable : 0;
  }

  handle(): number {
    return this.nextHandle++;
  }

  get freeBytes(): number {
    const context = this.contextExists ? this.options.contextBytes : 0;
    return Math.max(0, this.gpu.totalBytes - this.gpu.othersBytes - context - this.allocatedBytes);
  }

  /** Counts a call; returns the code of the fault that it meets, else null: the call is made. */
  meet(name: string, args: readonly unknown[], bytes = 0): number | null {
    this.calls.set(name, (this.calls.get(name) ?? 0) + 1);
    this.observe?.(name, args);
    for (const each of this.faults) {
      const { call, nth = 1, times = 1, above = -1, gpu = this.index, leaves } = each.fault;
      const { freeBelow = Number.POSITIVE_INFINITY } = each.fault;
      if (call !== name || bytes <= above || gpu !== this.index || this.freeBytes >= freeBelow) continue;
      each.seen += 1;
      if (each.seen < nth || each.seen >= nth + times) continue;
      if (leaves === 'hung') {
        this.mark('hung');
        return null;
      }
      const code = each.fault.code ?? (leaves === 'lost' ? CODES.unknown : OUT_OF_MEMORY[libraryOf(name)]);
      if (leaves === 'lost') {
        this.mark('lost');
        this.lostCode = code;
      }
      return code;
    }
    if (this.state !== 'lost' || !REACHES_DEVICE.test(name)) return null;
    const library = libraryOf(name);
    return library === 'cu' ? this.lostCode : LOST[library];
  }

  /** For a call that waits for the device: blocks for ever if the GPU hangs. */
  wait(what: string): void {
    if (this.state !== 'hung') return;
    if (!this.blocks) throw new Error(`${what} never returns: the fake GPU hangs`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  }

  /** The address of new memory; null if there is too little. */
  allocate(bytes: number): number | null {
    const size = Math.ceil(bytes / PAGE) * PAGE;
    if (size > this.freeBytes) return null;
    const allocation = { address: this.nextAddress, bytes: size, live: true };
    this.allocations.push(allocation);
    this.nextAddress += size + GUARD;
    this.allocatedBytes += size;
    this.peakAllocatedBytes = Math.max(this.peakAllocatedBytes, this.allocatedBytes);
    return allocation.address;
  }

  free(address: number): void {
    const allocation = this.find(address);
    if (allocation === null || !allocation.live || allocation.address !== address)
      throw new Error(`the fake driver has no allocation at ${hex(address)}`);
    allocation.live = false;
    this.allocatedBytes -= allocation.bytes;
  }

  /** The allocation that has all bytes of a range. */
  owner({ address, bytes }: Range, what: string): Allocation {
    const found = this.find(address);
    if (found === null || !found.live || address + bytes > found.address + found.bytes) {
      throw new Error(`${what} uses ${bytes} bytes at ${hex(address)}, which are not allocated`);
    }
    return found;
  }

  /** Whether a number is an address of device memory. */
  isAddress(value: number): boolean {
    return value >= FIRST_ADDRESS && value < this.nextAddress;
  }

  /** Writes the report of this process: `process-<pid>.json` in the folder of the options. */
  report(): void {
    const { folder } = this.options;
    if (folder === null || this.calls.size === 0) return;
    const { index: gpu, allocatedBytes, peakAllocatedBytes } = this;
    const report = { gpu, allocatedBytes, peakAllocatedBytes, calls: Object.fromEntries(this.calls) };
    writeFileSync(join(folder, `process-${process.pid}.json`), JSON.stringify(report));
  }

  private find(address: number): Allocation | null {
    let [low, high] = [0, this.allocations.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.allocations[middle] as Allocation).address <= address) low = middle + 1;
      else high = middle;
    }
    return this.allocations[low - 1] ?? null;
  }

  private mark(state: 'lost' | 'hung'): void {
    this.state = state;
    const { folder } = this.options;
    if (folder !== null) writeFileSync(join(folder, `${state}-${this.index}`), '');
  }

  private marked(state: 'lost' | 'hung'): boolean {
    const { folder } = this.options;
    return folder !== null && existsSync(join(folder, `${state}-${this.index}`));
  }
}

/** Calls that fail on a lost GPU. */
const REACHES_DEVICE =
  /^cu(MemAlloc|MemFree_v2|Memcpy|Memset|Stream|Event(Record|Query|Synchronize)|Launch|Graph(Launch|Inst)|Module|MemGetInfo)|^cublasLtMatmul$|^cudnnBackendExecute$/;

function libraryOf(name: string): Library {
  if (name.startsWith('cublas')) return 'cublas';
  return name.startsWith('cudnn') ? 'cudnn' : 'cu';
}

function hex(address: number): string {
  return `0x${address.toString(16)}`;
}
