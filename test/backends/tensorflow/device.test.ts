/** On a machine with a GPU TensorFlow computes on it or is refused; without one it may use the CPU. */
import { describe, expect, it } from 'vitest';
import { hasNvidiaGpu, refuseDevice } from '../../../src/backends/tensorflow/device.js';
import { threadEnvironment } from '../../../src/backends/tensorflow/threads.js';

describe('a machine has a GPU', () => {
  const only = (present: string | null) => (path: string) => path === present;

  it.each([
    ['its device file is there', '/dev/nvidia0', undefined, true],
    ['its driver lists it', '/proc/driver/nvidia/gpus', undefined, true],
    ['some of its GPUs are visible', '/dev/nvidia0', '1', true],
    ['none is there', null, undefined, false],
    ['all are hidden on purpose', '/dev/nvidia0', '-1', false],
    ['the list of visible ones is empty', '/dev/nvidia0', '', false],
  ] as const)('or not: %s', (_, present, visible, expected) => {
    expect(hasNvidiaGpu(only(present), visible)).toBe(expected);
  });
});

describe('TensorFlow', () => {
  it.each([
    [false, false],
    [true, true],
  ])('is used where the machine has a GPU: %s and it computes there: %s', (machineHasGpu, onGpu) => {
    expect(refuseDevice({ machineHasGpu, onGpu })).toBeNull();
  });

  it('that does not see the GPU is refused, with what to do', () => {
    expect(refuseDevice({ machineHasGpu: true, onGpu: false })).toMatch(
      /npm run tensorflow:install -- --gpu/,
    );
  });

  it('takes its threads from the environment', () => {
    expect(threadEnvironment(3)).toEqual({ TF_NUM_INTRAOP_THREADS: '3', TF_NUM_INTEROP_THREADS: '1' });
  });
});
