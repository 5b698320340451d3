/** A GPU that is lost is retired; a run that fails with its GPU is tried on a second one, and on no third. */
import { expect, it } from 'vitest';
import { GpuPool } from '../../src/sweep/gpu-pool.js';

const GPUS = ['GPU-a', 'GPU-b', 'GPU-c'];
const lostBy = (runId: string, gpu: string) => ({ runId, gpu, lost: 'ECC error', isOfDevice: true });
const failedOn = (runId: string, gpu: string) => ({ runId, gpu, lost: null, isOfDevice: true });

it('slots share the GPUs in turn, and a process is limited to one if the machine has others', () => {
  const pool = new GpuPool(['GPU-a', 'GPU-b'], true, 3);
  expect([0, 1, 2].map((slot) => pool.of(slot))).toEqual(['GPU-a', 'GPU-b', 'GPU-a']);
  expect(pool.environment('GPU-b')).toEqual({ CUDA_VISIBLE_DEVICES: 'GPU-b' });
  expect(new GpuPool(['GPU-a'], false, 1).environment('GPU-a')).toEqual({});
  expect(new GpuPool([], false, 1).of(0)).toBe('');
});

it('a lost GPU takes no more runs, all its slots, and is reported once', () => {
  const pool = new GpuPool(['GPU-a', 'GPU-b'], true, 4);
  expect(pool.judge(lostBy('run', 'GPU-a'))).toBe('again');
  expect(pool.judge(lostBy('other', 'GPU-a'))).toBe('again');
  expect([0, 1, 2, 3].map((slot) => pool.accepts('third', slot))).toEqual([false, true, false, true]);
  expect(pool.lost).toEqual(['GPU-a is lost, no more runs start on it: ECC error']);
});

it('a spare GPU replaces one that is lost', () => {
  const pool = new GpuPool(GPUS, true, 1);
  expect(pool.judge(lostBy('run', 'GPU-a'))).toBe('again');
  expect(pool.of(0)).toBe('GPU-b');
  expect(pool.accepts('run', 0)).toBe(true);
});

it('a run that fails on two GPUs has failed; on a GPU that works others go on', () => {
  const pool = new GpuPool(GPUS, true, 3);
  expect(pool.judge(failedOn('run', 'GPU-a'))).toBe('again');
  expect([0, 1, 2].map((slot) => pool.accepts('run', slot))).toEqual([false, true, true]);
  expect(pool.judge(failedOn('run', 'GPU-b'))).toBe('failed');
  expect(pool.failedOn('run')).toEqual(['GPU-a', 'GPU-b']);
  expect(pool.accepts('other', 0)).toBe(true);
  expect(pool.lost).toEqual([]);
});

it('a failure that is not the device’s is the run’s', () => {
  const pool = new GpuPool(GPUS, true, 3);
  expect(pool.judge({ runId: 'run', gpu: 'GPU-a', lost: null, isOfDevice: false })).toBe('failed');
});

it('the last GPU that is lost has no other for its run', () => {
  const pool = new GpuPool(['GPU-a', 'GPU-b'], true, 2);
  pool.judge(lostBy('run', 'GPU-a'));
  expect(pool.judge(lostBy('other', 'GPU-b'))).toBe('failed');
  expect([0, 1].some((slot) => pool.accepts('third', slot))).toBe(false);
});
