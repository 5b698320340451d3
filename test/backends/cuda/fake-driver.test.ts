/** The fake driver of test/support: it repeats measured memory, fails as it is told to, and works in the processes of a sweep. */
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { DeviceMemoryError } from '../../../src/errors.js';
import { type FakeCuda, fakeProcesses, startFakeCuda } from '../../support/fake-cuda.js';
import { fakeTraining } from '../../support/fake-training.js';
import { startMod } from '../../support/mod.js';
import { makeTinySweep, runRows, TINY_SWEEP } from '../../support/tiny-sweep.js';

const GIB = 2 ** 30;
const SMALL = 'd64l2t64b4v256c0.25f2';

let started: FakeCuda | null = null;
async function start(...options: Parameters<typeof startFakeCuda>): Promise<FakeCuda> {
  started = await startFakeCuda(...options);
  return started;
}
afterEach(() => {
  started?.close();
  started = null;
});

/** Shapes of docs/benchmarks.md and the peak memory that an H200 measured for them, dense and routed, in GiB. */
const MEASURED = [
  ...readFileSync('docs/benchmarks.md', 'utf8').matchAll(/^\| D \d+, .*`(d\d+l\S+v\d+)`(.*)$/gm),
].flatMap(([, shape, cells = '']) => {
  const [dense, routed] = [...cells.matchAll(/([\d.]+) GiB/g)].map(([, gib]) => Number(gib));
  return [
    { shape, gib: dense },
    { shape: `${shape}c0.125f2`, gib: routed },
  ].filter((row) => row.gib !== undefined) as { shape: string; gib: number }[];
});

describe('memory on the fake driver', () => {
  it('has measured shapes to compare with', () => {
    expect(MEASURED).toHaveLength(6);
  });

  it.each(MEASURED)('has the measured peak of $shape, $gib GiB', async ({ shape, gib }) => {
    const cuda = await start();
    const training = fakeTraining(cuda, shape);
    await training.run(4);
    // The docs round to 0.1 GiB. Workspaces of cuDNN are the only memory that the fake has to guess.
    expect(Math.abs(cuda.backend.memoryUse().peak / GIB - gib)).toBeLessThan(0.06);
    training.dispose();
  });

  it('is as large as the GPU, without the memory of other processes and of the context', async () => {
    const gpu = { totalBytes: 2 * GIB, othersBytes: GIB };
    const { device, backend } = await start({ gpus: [gpu], contextBytes: GIB / 2 });
    expect(backend.driver.memoryInfo()).toEqual({ total: 2 * GIB, free: device.freeBytes });
    expect(device.freeBytes).toBe(GIB / 2 - device.allocatedBytes);
    expect(() => backend.device.allocate(GIB / 2)).toThrow(DeviceMemoryError);
    expect(() => backend.device.allocate(GIB / 4)).not.toThrow();
  });

  it('refuses work on memory that is not allocated', async () => {
    const { backend } = await start();
    const block = backend.device.allocate(4 * 2 ** 20);
    backend.device.release(block);
    backend.device.trim();
    expect(() => backend.driver.zero(block.address, 8)).toThrow(/not allocated/);
  });
});

describe('faults of the fake driver', () => {
  it('fails the n-th call, once, and then works', async () => {
    const cuda = await start();
    cuda.device.fail({ call: 'cuMemAlloc_v2', nth: 2 });
    expect(cuda.backend.driver.allocate(1)).not.toBeNull();
    expect(cuda.backend.driver.allocate(1)).toBeNull();
    expect(cuda.backend.driver.allocate(1)).not.toBeNull();
  });

  it('fails allocations above a limit', async () => {
    const cuda = await start();
    cuda.device.fail({ call: 'cuMemAlloc_v2', above: 2 ** 20, times: 1e9 });
    expect(cuda.backend.driver.allocate(2 ** 20)).not.toBeNull();
    expect(cuda.backend.driver.allocate(2 ** 20 + 1)).toBeNull();
  });

  it.each(['cuGraphInstantiateWithFlags', 'cuModuleLoadData', 'cublasLtMatmul', 'cudnnBackendExecute'])(
    'fails %s in a training step',
    async (call) => {
      const cuda = await start({ faults: [{ call, times: 1e9 }] }); // choices among algorithms skip one that fails
      const training = fakeTraining(cuda, SMALL);
      await expect(training.run(4)).rejects.toThrow();
      training.dispose();
    },
  );

  it('loses a GPU: from then on every call to it fails', async () => {
    const { device, backend } = await start();
    device.fail({ call: 'cuStreamSynchronize', code: 214, leaves: 'lost' });
    expect(() => backend.driver.synchronize()).toThrow('CUDA_ERROR_ECC_UNCORRECTABLE');
    expect(() => backend.driver.allocate(1)).toThrow('CUDA_ERROR_ECC_UNCORRECTABLE');
    device.heal();
    expect(() => backend.driver.synchronize()).not.toThrow();
  });

  it('hangs a GPU: no event completes', async () => {
    const { device, backend } = await start();
    const event = backend.driver.event();
    backend.driver.record(event);
    expect(backend.driver.reached(event)).toBe(true);
    device.fail({ call: 'cuGraphLaunch', leaves: 'hung' });
    const training = fakeTraining({ backend }, SMALL);
    await training.run(2);
    const third = training.run(1);
    const first = await Promise.race([third, new Promise((resolve) => setTimeout(resolve, 50, 'hung'))]);
    expect(first).toBe('hung');
    device.heal();
    await third;
    training.dispose();
  });
});

it('runs a sweep on two fake GPUs, one run on each at a time', async () => {
  const fake = await fakeProcesses({ gpus: [{}, { name: 'NVIDIA A100-SXM4-40GB', architecture: 80 }] });
  const sweep = makeTinySweep(TINY_SWEEP.replace('backend: wasm', 'backend: cuda'));
  const args = ['sweep', sweep.config, '--results', sweep.results];
  const { code, stderr } = await startMod(args, undefined, fake.environment).ended;
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const rows = runRows(sweep);
  expect(rows.map(({ status }) => status)).toEqual(['done', 'done', 'done']);
  expect([...new Set(rows.map(({ device }) => device))].sort()).toEqual([
    'NVIDIA A100-SXM4-40GB',
    'NVIDIA H100 80GB HBM3',
  ]);
  const trained = fake.ended().filter(({ calls }) => (calls.cuGraphLaunch ?? 0) > 0);
  expect(trained).toHaveLength(3);
  expect([...new Set(trained.map(({ gpu }) => gpu))].sort()).toEqual([0, 1]);
  fake.close();
});
