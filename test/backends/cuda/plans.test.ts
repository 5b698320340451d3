/** cuDNN plans attention for a described GPU on a machine without one, and reads plans back from disk. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import koffi from 'koffi';
import { afterAll, describe, expect, it } from 'vitest';
import { AttentionPlans } from '../../../src/backends/cuda/driver/attention-plans.js';
import { Compiler } from '../../../src/backends/cuda/driver/compiler.js';
import { Cudnn } from '../../../src/backends/cuda/driver/cudnn.js';
import { libraries } from '../../support/cuda-libraries.js';

/** The properties that cuDNN reads on a machine with this GPU. */
const H200 = {
  maxGridSize: [2147483647, 65535, 65535],
  maxBlockSize: [1024, 1024, 64],
  regsPerBlock: 65536,
  multiProcessorCount: 132,
  smCountOrigin: 0,
  warpSize: 32,
  maxSharedMemoryPerBlock: 49152,
  maxSharedMemoryPerBlockOptin: 232448,
  oversizedSharedMemoryPerBlock: 0,
  reservedSharedMemoryPerBlock: 1024,
  maxRegistersPerSM: 65536,
  maxCtasPerSM: 32,
  maxThreadsPerBlock: 1024,
  maxThreadsPerSM: 2048,
  pciDeviceId: 0,
  isTccDriver: 0,
  supportCoopLaunch: 1,
  totalGlobalMem: 150109880320,
  smClockRateKHz: 1980000,
  memClockRateKHz: 3201000,
  memoryBusWidth: 6144,
  l2CacheSize: 62914560,
  cudaDeviceId: 0,
  deviceVer: 900,
  driverVer: 13000,
  deviceName: 'NVIDIA H200',
};

const folder = mkdtempSync(join(tmpdir(), 'mod-plans-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** cuDNN without a GPU, or the reason why it cannot be opened. */
function open(): Cudnn | string {
  const { nvrtc, cudnn } = libraries;
  if (nvrtc.path === null || cudnn.path === null) return 'cuDNN or NVRTC is missing';
  const stub = join(folder, 'libcuda.so.1');
  const source = join(import.meta.dirname, '../../support/libcuda-stub.c');
  try {
    execFileSync('cc', ['-shared', '-w', '-Wl,-soname,libcuda.so.1', '-o', stub, source]);
  } catch {
    return 'no C compiler for a stub of the driver';
  }
  // Loads the engines that compile kernels at run time only.
  process.env.CUDNN_LIB_CONFIG = 'GRAPH_JIT_ONLY';
  koffi.load(stub, { global: true });
  new Compiler(nvrtc.path);
  const opened = new Cudnn(cudnn.path);
  opened.describeDevice(H200);
  return opened;
}

const cudnn = open();
if (typeof cudnn === 'string') console.info(`skipped, ${cudnn}`);

describe.skipIf(typeof cudnn === 'string')('cuDNN', () => {
  const opened = cudnn as Cudnn;

  it.each([
    { batch: 32, heads: 12, n: 2048, size: 64 },
    { batch: 128, heads: 5, n: 128, size: 64 },
    { batch: 1, heads: 2, n: 77, size: 32 },
    { batch: 2, heads: 2, n: 200, size: 128 },
  ])('plans attention of $batch sequences of $n tokens, $heads heads of $size', (shape) => {
    const plans = new AttentionPlans(opened, 'H200', folder);
    expect(plans.supports(shape)).toBe(true);
    for (const pass of ['forward', 'backward', 'deterministic backward'] as const) {
      expect(plans.plan(pass, shape).workspaceBytes, pass).toBeLessThan(4 * 2 ** 30);
    }
  });

  it('reads plans from disk, and makes new ones if a file is damaged', () => {
    const shape = { batch: 2, heads: 1, n: 48, size: 64 };
    const own = join(folder, 'own');
    const bytes = new AttentionPlans(opened, 'H200', own).plan('forward', shape).workspaceBytes;
    const [name] = readdirSync(own) as [string];
    expect(new AttentionPlans(opened, 'H200', own).plan('forward', shape).workspaceBytes).toBe(bytes);
    writeFileSync(join(own, name), 'broken');
    expect(new AttentionPlans(opened, 'H200', own).plan('forward', shape).workspaceBytes).toBe(bytes);
  });

  it.each([
    [{ batch: 1, heads: 1, n: 64, size: 20 }, false],
    [{ batch: 1, heads: 1, n: 64, size: 264 }, false],
    [{ batch: 1, heads: 1, n: 1, size: 64 }, false],
    [{ batch: 1, heads: 1, n: 64, size: 64 }, true],
    [{ batch: 2, heads: 2, n: 256, size: 160 }, true],
    [{ batch: 2, heads: 2, n: 256, size: 192 }, true],
    [{ batch: 2, heads: 2, n: 256, size: 256 }, true],
  ])('supports %j: %s', (shape, supported) => {
    expect(new AttentionPlans(opened, 'H200', folder).supports(shape)).toBe(supported);
  });
});
