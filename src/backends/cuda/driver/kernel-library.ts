/** Compiles a kernel file at its first use and launches kernels with packed arguments. */
import { koffi } from '../../../ffi.js';
import { type KernelFile, kernelDefinitions, kernelSource } from '../kernels/files.js';
import type { Compiler } from './compiler.js';
import type { Address, Driver } from './driver.js';
import type { ActivationStorage } from './storage.js';

/** A kernel argument; 32-bit integers are plain numbers. */
export type Argument =
  | number
  | { readonly kind: 'address' | 'double' | 'float' | 'long'; readonly value: number };

export const address = (value: Address | null): Argument => ({ kind: 'address', value: value ?? 0 });
export const double = (value: number): Argument => ({ kind: 'double', value });
export const float = (value: number): Argument => ({ kind: 'float', value });
export const long = (value: number): Argument => ({ kind: 'long', value });

export interface LaunchShape {
  grid: number | readonly [number, number, number];
  /** Threads per block. */
  block: number;
  /** Bytes of dynamic shared memory. */
  shared?: number;
}

const ARGUMENT_BYTES = 1024;

export class KernelLibrary {
  private readonly modules = new Map<string, Address>();
  private readonly functions = new Map<string, Address>();
  private readonly allowed = new Map<Address, number>();
  private readonly arguments: DataView;
  private readonly extra: Address;
  private readonly structure: Address;
  private readonly size: BigUint64Array;

  constructor(
    private readonly driver: Driver,
    private readonly compiler: Compiler,
  ) {
    // Memory at a fixed address that launches refer to: the arguments, their size, the list of both, and the arguments'
    // address.
    const words = 8;
    const base = koffi.alloc('uint8_t', ARGUMENT_BYTES + 8 * words) as bigint;
    const memory = koffi.view(base, ARGUMENT_BYTES + 8 * words);
    this.arguments = new DataView(memory, 0, ARGUMENT_BYTES);
    this.size = new BigUint64Array(memory, ARGUMENT_BYTES, 1);
    const list = new BigUint64Array(memory, ARGUMENT_BYTES + 8, 5);
    const [end, buffer, bufferSize] = [0n, 1n, 2n]; // CU_LAUNCH_PARAM_*
    list.set([buffer, base, bufferSize, base + BigInt(ARGUMENT_BYTES), end]);
    this.extra = Number(base) + ARGUMENT_BYTES + 8;
    this.structure = Number(base) + ARGUMENT_BYTES + 48;
    new BigUint64Array(memory, ARGUMENT_BYTES + 48, 1).set([base]);
  }

  /** Launches a kernel of a file compiled for this storage; does nothing if a side of the grid is 0. */
  launch(
    storage: ActivationStorage,
    file: KernelFile,
    name: string,
    { grid, block, shared = 0 }: LaunchShape,
    args: readonly Argument[],
  ): void {
    const shape = typeof grid === 'number' ? ([grid, 1, 1] as const) : grid;
    if (shape[0] === 0 || shape[1] === 0 || shape[2] === 0) return;
    const kernel = this.find(storage, file, name);
    this.allow(kernel, shared);
    this.pack(args);
    this.driver.launch(kernel, shape, block, shared, this.extra, name);
  }

  /** Launches blocks that are all resident at once; the arguments are the fields of the kernel's one struct. */
  launchCooperative(
    storage: ActivationStorage,
    file: KernelFile,
    name: string,
    { grid, block, shared = 0 }: LaunchShape & { grid: number },
    args: readonly Argument[],
  ): void {
    const kernel = this.find(storage, file, name);
    this.allow(kernel, shared);
    this.pack(args);
    this.driver.launchCooperative(kernel, grid, block, shared, this.structure, name);
  }

  private allow(kernel: Address, shared: number): void {
    // A kernel may use 48 KiB without opting in, static memory included, whose size is not known here.
    if (shared === 0 || (this.allowed.get(kernel) ?? 0) >= shared) return;
    this.driver.allowSharedMemory(kernel, shared);
    this.allowed.set(kernel, shared);
  }

  private find(storage: ActivationStorage, file: KernelFile, name: string): Address {
    const key = `${storage}/${name}`;
    const known = this.functions.get(key);
    if (known !== undefined) return known;
    const moduleKey = `${storage}/${file}`;
    let module = this.modules.get(moduleKey);
    if (module === undefined) {
      const cubin = this.compiler.cached(
        file,
        kernelSource(file),
        this.driver.architecture,
        kernelDefinitions(storage),
      );
      module = this.driver.loadModule(cubin);
      this.modules.set(moduleKey, module);
    }
    const kernel = this.driver.kernel(module, name);
    this.functions.set(key, kernel);
    return kernel;
  }

  /** Packs the arguments as C does: each aligned to its own size. */
  private pack(args: readonly Argument[]): void {
    let at = 0;
    for (const argument of args) {
      if (typeof argument === 'number') {
        this.arguments.setInt32(at, argument, true);
        at += 4;
      } else if (argument.kind === 'float') {
        this.arguments.setFloat32(at, argument.value, true);
        at += 4;
      } else {
        at = (at + 7) & ~7;
        if (argument.kind === 'double') {
          this.arguments.setFloat64(at, argument.value, true);
        } else {
          this.arguments.setUint32(at, argument.value % 2 ** 32, true);
          this.arguments.setUint32(at + 4, Math.floor(argument.value / 2 ** 32), true);
        }
        at += 8;
      }
    }
    this.size[0] = BigInt(at);
  }
}
