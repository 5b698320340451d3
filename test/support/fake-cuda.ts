/**
 * The cuda backend on the fake driver (fake-driver/): in this process, or in the processes that a test starts. No GPU and no
 * library of NVIDIA is needed; nothing is computed.
 */
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { findBackend, getKernelsForBackend, removeBackend, unregisterKernel } from '@tensorflow/tfjs-core';
import { rolldown } from 'rolldown';
import { CUDA, type CudaBackend } from '../../src/backends/cuda/backend.js';
import { type CudaOptions, startCuda } from '../../src/backends/cuda/start.js';
import type { FakeDevice } from './fake-driver/device.js';
import { installFakeDriver, libraryEnvironment, makeLibraryFolder } from './fake-driver/install.js';
import { DEFAULT_OPTIONS, type FakeDriverOptions } from './fake-driver/options.js';

export interface FakeCuda {
  device: FakeDevice;
  backend: CudaBackend;
  /** Ends the backend and restores the process. */
  close: () => void;
}

/** Starts the cuda backend of this process on a fake driver. Files that call it are integration tests: one process each. */
export async function startFakeCuda(
  options: Partial<FakeDriverOptions> = {},
  cuda: CudaOptions = { precision: 'bf16' },
): Promise<FakeCuda> {
  const { device, remove } = installFakeDriver({ ...DEFAULT_OPTIONS, ...options });
  const close = () => {
    endCuda();
    remove();
  };
  endCuda(); // that of an earlier test
  try {
    return { device, backend: await startCuda(cuda), close };
  } catch (error) {
    close();
    throw error;
  }
}

/** Removes the backend and its kernels from tfjs. */
function endCuda(): void {
  const backend = findBackend(CUDA);
  if (backend === null) return;
  for (const { kernelName } of getKernelsForBackend(CUDA)) unregisterKernel(kernelName, CUDA);
  backend.dispose = () => undefined; // tfjs calls it; the process ends before a real one is freed
  removeBackend(CUDA);
}

/** What a process that used the fake driver did. */
export interface FakeProcess {
  gpu: number;
  allocatedBytes: number;
  peakAllocatedBytes: number;
  calls: Record<string, number>;
}

export interface FakeProcesses {
  /** Environment for `mod` and for the processes that it starts, nvidia-smi included. */
  environment: Record<string, string>;
  /** The processes that have ended so far. */
  ended: () => FakeProcess[];
  close: () => void;
}

/** Prepares a fake driver for processes: GPUs that were lost or hung stay so in later ones. */
export async function fakeProcesses(options: Partial<FakeDriverOptions> = {}): Promise<FakeProcesses> {
  const folder = makeLibraryFolder();
  const [preload, state, programs] = [
    join(folder, 'preload.mjs'),
    join(folder, 'state'),
    join(folder, 'bin'),
  ];
  for (const each of [state, programs]) mkdirSync(each);
  const bundle = await rolldown({
    input: join(import.meta.dirname, 'fake-driver/preload.ts'),
    platform: 'node',
    external: ['koffi'],
    resolve: { extensionAlias: { '.js': ['.ts', '.js'] } },
  });
  // koffi must be the program's own.
  await bundle.write({
    file: preload,
    format: 'esm',
    codeSplitting: false,
    paths: { koffi: import.meta.resolve('koffi') },
  });
  const smi = join(programs, 'nvidia-smi');
  writeFileSync(smi, `#!/bin/sh\nexec '${process.execPath}' '${preload}' nvidia-smi "$@"\n`);
  chmodSync(smi, 0o755);
  const given: FakeDriverOptions = { ...DEFAULT_OPTIONS, ...options, folder: state };
  const environment = {
    ...libraryEnvironment(folder),
    PATH: [programs, process.env.PATH ?? ''].join(delimiter),
    NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --import ${pathToFileURL(preload).href}`.trim(),
    MOD_FAKE_DRIVER: JSON.stringify({ folder, options: given }),
  };
  return {
    environment,
    ended: () =>
      readdirSync(state)
        .filter((name) => name.startsWith('process-'))
        .map((name) => JSON.parse(readFileSync(join(state, name), 'utf8')) as FakeProcess),
    close: () => rmSync(folder, { recursive: true, force: true }),
  };
}
