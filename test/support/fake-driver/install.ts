/**
 * Replaces NVIDIA's libraries by the fake driver in this process. What the backend calls through koffi is the boundary: koffi
 * loads from a folder of empty files whose functions are those of the fake, everything above it is the program's own code.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import koffi from 'koffi';
import { cudaFunctions, FakeStream } from './cuda.js';
import { FakeDevice } from './device.js';
import { cublasFunctions, cudnnFunctions, nvrtcFunctions } from './libraries.js';
import { HostMemory, type NativeFunctions } from './native.js';
import type { FakeDriverOptions } from './options.js';

const FILES = ['libcuda.so.1', 'libcublasLt.so.13', 'libcudnn.so.9', 'libnvrtc.so.13'];

/** Variables that select the folder of NVIDIA's libraries and of the cache. */
const VARIABLES = ['CUDA_HOME', 'CUDA_PATH', 'LD_LIBRARY_PATH', 'XDG_CACHE_HOME'] as const;

/** A folder with the libraries' files, and an empty cache: kernels that are not compiled must not be found by real runs. */
export function makeLibraryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'mod-fake-driver-'));
  for (const file of FILES) writeFileSync(join(folder, file), '');
  return folder;
}

/** The variables of VARIABLES under which the program finds the libraries in a folder. */
export function libraryEnvironment(folder: string): Record<(typeof VARIABLES)[number], string> {
  const path = [folder, process.env.LD_LIBRARY_PATH ?? ''].filter((part) => part !== '').join(delimiter);
  return { CUDA_HOME: '', CUDA_PATH: '', LD_LIBRARY_PATH: path, XDG_CACHE_HOME: join(folder, 'cache') };
}

export interface Installed {
  device: FakeDevice;
  /** Restores koffi and the environment. */
  remove: () => void;
}

/** Makes koffi load the fake for libraries in `folder`. */
export function replaceLibraries(folder: string, options: FakeDriverOptions, blocks: boolean): Installed {
  const device = new FakeDevice(options, blocks);
  if (options.reads === 'noise') device.read = noise;
  const stream = new FakeStream(device);
  const functions: NativeFunctions = {
    ...cudaFunctions(device, stream, new HostMemory(koffi)),
    ...nvrtcFunctions(device),
    ...cublasFunctions(device, stream),
    ...cudnnFunctions(device, stream),
  };
  const { load } = koffi;
  koffi.load = ((...args: Parameters<typeof load>) =>
    String(args[0] ?? '').startsWith(folder)
      ? { func: (definition: string) => functionOf(definition, functions, device) }
      : load(...args)) as typeof load;
  return {
    device,
    remove: () => {
      koffi.load = load;
    },
  };
}

/** Installs the fake in this process, with its own folder; `remove` removes both. */
export function installFakeDriver(options: FakeDriverOptions): Installed {
  const folder = makeLibraryFolder();
  const before = VARIABLES.map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, libraryEnvironment(folder));
  const { device, remove } = replaceLibraries(folder, options, false);
  return {
    device,
    remove: () => {
      remove();
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** The index of the argument with the bytes that a call allocates. */
const BYTES_ARGUMENT: Record<string, number> = { cuMemAlloc_v2: 1, cuMemHostAlloc: 1 };

/** A function as koffi makes it from a definition in C, with faults. */
function functionOf(definition: string, functions: NativeFunctions, device: FakeDevice) {
  const name = /(\w+)\(/.exec(definition)?.[1] ?? definition;
  const call = functions[name];
  if (call === undefined)
    throw new Error(`the fake driver has no ${name}: add it to test/support/fake-driver`);
  const bytesAt = BYTES_ARGUMENT[name];
  return (...args: never[]) => {
    const bytes = bytesAt === undefined ? 0 : Number(args[bytesAt]);
    return device.meet(name, args, bytes) ?? call(...args);
  };
}

/** Floats in [-1, 1) that depend on the address and the position alone. */
function noise(bytes: Uint8Array, from: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let state = ((from / 512) % 2 ** 31) | 1;
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) | 0;
    view.setFloat32(at, state / 2 ** 31, true);
  }
}
