/** Memory of training on the fake driver: no run that trains is ended by an evaluation, and every lack of memory is survived. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { memory } from '@tensorflow/tfjs-core';
import { afterEach, describe, expect, it } from 'vitest';
import { parseShape } from '../../../src/bench/shape.js';
import { HeldoutWindows } from '../../../src/data/batches.js';
import { DeviceMemoryError } from '../../../src/errors.js';
import { evaluate } from '../../../src/eval/heldout.js';
import { microBatchSequences } from '../../../src/model/memory.js';
import { trainAndEvaluate, zeroTokens } from '../../support/evaluated-training.js';
import { type FakeCuda, fakeProcesses, startFakeCuda } from '../../support/fake-cuda.js';
import type { Fault } from '../../support/fake-driver/options.js';
import { fakeModel, fakeTraining } from '../../support/fake-training.js';
import { startMod } from '../../support/mod.js';
import { makeTinySweep, runRows, TINY_RUNS, TINY_SWEEP } from '../../support/tiny-sweep.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** GPT-2's vocabulary. */
const V = 50257;

let started: FakeCuda | null = null;
async function start(...options: Parameters<typeof startFakeCuda>): Promise<FakeCuda> {
  started = await startFakeCuda(...options);
  return started;
}
afterEach(() => {
  started?.close();
  started = null;
});

describe('reserved memory', () => {
  it.each([
    [`d256l6t2048b128v${V}`, 64],
    [`d512l8t2048b128v${V}`, 32],
    [`d768l12t2048b128v${V}`, 43],
    [`d768l12t2048b128v${V}c0.125f2`, 43],
    [`d1216l23t2048b64v${V}`, 32],
  ] as const)('is at most 1.1 times the peak: %s in micro-batches of %i', async (shape, microBatch) => {
    const cuda = await start({ gpus: [{ totalBytes: 141 * GIB }] });
    const training = fakeTraining(cuda, shape, microBatch);
    for (let step = 0; step < 4; step++) {
      await training.run(1);
      const { peak, reserved } = cuda.backend.memoryUse();
      expect(reserved / peak, `after step ${step + 1}`).toBeLessThan(1.1);
    }
    training.dispose();
  });
});

it('a deterministic step of as many tokens needs no more memory for longer sequences', async () => {
  const peaks: number[] = [];
  for (const shape of ['d256l1t2048b32v256', 'd256l1t8192b8v256', 'd256l1t65536b1v256']) {
    const cuda = await start({}, { precision: 'bf16', deterministic: true });
    const training = fakeTraining(cuda, shape);
    await training.run(1);
    peaks.push(cuda.backend.memoryUse().peak / GIB);
    training.dispose();
    cuda.close();
  }
  // cuDNN's workspace, at most 1 GiB, is all that differs; for the whole batch it would be 1, 4 and 32 GiB.
  expect(Math.max(...peaks)).toBeLessThan(Math.min(...peaks) + 1.01);
});

describe('a run that evaluates while it trains', () => {
  it.each([
    `d256l6t2048b128v${V}`,
    `d512l8t2048b128v${V}`,
    `d768l12t2048b128v${V}`,
    `d768l12t2048b128v${V}c0.125f2`,
    `d1216l23t2048b32v${V}`,
  ])('%s ends on GPUs of 24, 48 and 80 GB, with its first micro-batch', async (shape) => {
    const { model: config, batchSequences } = parseShape(shape);
    const cuda = await start();
    const model = fakeModel(cuda, config);
    for (const gigabytes of [24, 48, 80]) {
      cuda.device.gpu.totalBytes = gigabytes * 1e9;
      cuda.backend.device.trim();
      const { free } = cuda.backend.driver.memoryInfo();
      const backend = { name: 'cuda', precision: 'bf16', memoryBytes: free } as const;
      const planned = microBatchSequences(config, batchSequences, backend);
      const { microBatches, losses } = await trainAndEvaluate(cuda.backend, model, batchSequences, planned);
      expect(losses).toHaveLength(3);
      // The estimate fits: nothing was tried in vain.
      expect(microBatches).toEqual([planned]);
    }
    model.dispose();
  });
});

/** Small, with every kind of block; 8 sequences. */
const SMALL = 'd64l2t64b8v256c0.25f2';

describe('a device that runs out of memory', () => {
  /** Leaves `reserved` bytes to this process, in free blocks, and none to others. */
  function fill({ backend }: FakeCuda, reserved: number): void {
    backend.device.release(backend.device.allocate(reserved));
    const { free } = backend.driver.memoryInfo();
    backend.driver.allocate(free - 32 * MIB);
  }

  /** Trains the small model; the tensors, bytes and graphs that are left afterwards. */
  async function trainSmall(cuda: FakeCuda) {
    const tensors = memory().numTensors;
    const { model: config, batchSequences } = parseShape(SMALL);
    const model = fakeModel(cuda, config);
    const trained = await trainAndEvaluate(cuda.backend, model, batchSequences, batchSequences);
    model.dispose();
    return { ...trained, left: memory().numTensors - tensors, graphs: { ...cuda.device.alive } };
  }

  it.each<[string, Fault]>([
    ['an allocation', { call: 'cuMemAlloc_v2', nth: 2, times: 2 }], // the second follows the return of free memory
    ['the instantiation of a graph', { call: 'cuGraphInstantiateWithFlags' }],
    ['the launch of a graph', { call: 'cuGraphLaunch', nth: 2 }],
    ['the load of a module', { call: 'cuModuleLoadData', nth: 3 }],
    ['a product', { call: 'cublasLtMatmul', nth: 20 }],
    ['a product whose kernel cannot be loaded', { call: 'cublasLtMatmul', nth: 20, code: 14 }],
    ['attention', { call: 'cudnnBackendExecute', nth: 2 }],
    ['a plan of attention', { call: 'cudnnBackendFinalize', nth: 30 }],
  ])('in %s halves the micro-batch', async (_, fault) => {
    const cuda = await start({}, { precision: 'bf16', deterministic: true });
    cuda.device.fail(fault);
    // Full but for blocks that are reserved already: the library need not give a reason.
    if (fault.code !== undefined) fill(cuda, 128 * MIB);
    const { microBatches, losses, left, graphs } = await trainSmall(cuda);
    expect(microBatches).toEqual([8, 4]);
    expect(losses).toHaveLength(3);
    expect(left).toBe(0);
    expect(graphs.graph.size + graphs.executable.size).toBe(0);
  });

  it('in a library for which the allocator has left too little returns free memory before the next attempt', async () => {
    const cuda = await start({}, { precision: 'bf16', deterministic: true });
    const { device, backend } = cuda;
    device.fail({ call: 'cublasLtMatmul', times: 1e9, freeBelow: 256 * MIB });
    const { model: config } = parseShape(`d256l4t512b16v${V}`);
    const model = fakeModel(cuda, config);
    device.gpu.totalBytes = device.gpu.totalBytes - device.freeBytes + 2.1 * GIB;
    backend.device.release(backend.device.allocate(1.9 * GIB)); // all but 0.2 GiB, as an evaluation may leave it
    const { microBatches } = await trainAndEvaluate(backend, model, 16, 16);
    expect(microBatches).toEqual([16, 8]);
    model.dispose();
  });

  it('because this process is limited reduces the micro-batch, as on a GPU in training.test.ts', async () => {
    const cuda = await start();
    const { backend } = cuda;
    const { model: config } = parseShape(`d256l4t512b16v${V}`);
    backend.driver.memoryLimit = 1.25 * GIB;
    const model = fakeModel(cuda, config);
    const { microBatches, losses } = await trainAndEvaluate(backend, model, 16, 16);
    expect(microBatches).toEqual([16, 8]);
    expect(losses).toHaveLength(3);
    expect(backend.memoryUse().reserved).toBeLessThan(1.25 * GIB);
    model.dispose();
  });

  it('in a library that fails for another reason is a failure', async () => {
    const cuda = await start({}, { precision: 'bf16', deterministic: true });
    cuda.device.fail({ call: 'cublasLtMatmul', nth: 20, code: 14 });
    await expect(trainSmall(cuda)).rejects.toThrow(/cuBLAS error 14/);
  });

  it('in an evaluation frees the recorded step, then halves the sequences of the evaluation', async () => {
    const cuda = await start();
    const { backend } = cuda;
    const allocate = backend.device.allocate.bind(backend.device);
    let limit = Number.POSITIVE_INFINITY;
    let freed = 0;
    backend.device.allocate = (bytes) => {
      if (bytes > limit) throw new DeviceMemoryError('no memory');
      return allocate(bytes);
    };
    const training = fakeTraining(cuda, SMALL);
    await training.run(3);
    const { model } = training;
    const windows = new HeldoutWindows(zeroTokens(8 * 64 + 1), 64);
    const options = { mode: 'topk', sequences: 8, batchSequences: 8, seed: 0 } as const;
    limit = 2 * 2 * 64 * 256; // logits of two sequences
    const evaluation = await evaluate(model, windows, { ...options, freeMemory: () => (freed += 1) });
    expect(evaluation.sequences).toBe(8);
    expect(evaluation.participation).toEqual([0]); // nothing is counted twice
    expect(freed).toBe(1);
    limit = 1;
    await expect(evaluate(model, windows, options)).rejects.toThrow(DeviceMemoryError);
    training.dispose();
  });

  it('leaks nothing, whichever allocation of a step fails', async () => {
    const cuda = await start();
    const { backend, device } = cuda;
    const allocate = backend.device.allocate.bind(backend.device);
    let left = Number.POSITIVE_INFINITY;
    backend.device.allocate = (bytes) => {
      left -= 1;
      if (left === 0) throw new DeviceMemoryError('no memory');
      return allocate(bytes);
    };
    // Tables stay for later steps with the same addresses.
    const addressOf = backend.tables.addressOf.bind(backend.tables);
    let tableBytes = 0;
    backend.tables.addressOf = (content) => {
      const used = backend.memoryUse().current;
      const address = addressOf(content);
      tableBytes += backend.memoryUse().current - used;
      return address;
    };
    const inUse = () => backend.memoryUse().current - tableBytes;
    const training = fakeTraining(cuda, SMALL);
    await training.run(1);
    let [before, failures] = [memory().numTensors, 0];
    for (const recorded of [false, true]) {
      if (recorded) await training.run(2);
      training.step.freeRecording();
      const bytes = inUse();
      before = memory().numTensors;
      for (let nth = 1; ; nth++) {
        left = nth;
        const error = await training.run(1).then(
          () => null,
          (reason: unknown) => reason,
        );
        if (error === null) break;
        failures += 1;
        expect(error).toBeInstanceOf(DeviceMemoryError);
        expect(memory().numTensors, `failure ${nth}`).toBe(before);
        expect(inUse(), `failure ${nth}`).toBe(bytes);
        expect(device.alive.graph.size, `failure ${nth}`).toBe(0);
      }
      left = Number.POSITIVE_INFINITY;
    }
    expect(failures).toBeGreaterThan(150);
    training.dispose();
  });
});

it('a run that had to halve its micro-batch keeps it when it resumes, and in its last evaluation', async () => {
  const text = `${TINY_SWEEP.replace('sequences: 4', 'sequences: 4, every_steps: 9')}checkpoint: {minutes: 0, steps: 5}\n`;
  const sweep = makeTinySweep(text.replace('backend: wasm', 'backend: cuda'));
  const [run] = TINY_RUNS as [string];
  const folder = join(sweep.results, 'tiny', run);
  const args = ['sweep', sweep.config, '--results', sweep.results, '--only', run];
  const trained = async (faults: Fault[]) => {
    const fake = await fakeProcesses({ faults });
    const { code } = await startMod(args, undefined, fake.environment).ended;
    fake.close();
    const { micro_batch_sequences } = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'));
    return { code, micro_batch_sequences };
  };
  const lack = { call: 'cudnnBackendExecute', nth: 3 };
  const crash = { call: 'cuGraphLaunch', nth: 20, code: 719 };
  expect(await trained([lack, crash])).toEqual({ code: 1, micro_batch_sequences: 1 });
  expect(await trained([])).toEqual({ code: 0, micro_batch_sequences: 1 });
  const log = readFileSync(join(folder, 'log.txt'), 'utf8');
  expect(log).toMatch(/resuming from .*step-\d+/);
  expect(log.match(/continuing with a micro-batch of 1 sequences/g)).toHaveLength(1);
  expect(runRows(sweep).find(({ run_id }) => run_id === run)?.status).toBe('done');
});
