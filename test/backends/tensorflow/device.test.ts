/** On a machine with a GPU, TensorFlow must use it; on one without a GPU it may use the CPU. */
import { describe, expect, it } from 'vitest';
import { deviceProblem, hasNvidiaGpu } from '../../../src/backends/tensorflow/device.js';
import { threadEnvironment } from '../../../src/backends/tensorflow/threads.js';

describe('hasNvidiaGpu', () => {
  const only = (present: string | null) => (path: string) => path === present;

  it.each([
    ['there is a device file', '/dev/nvidia0', undefined, true],
    ['the driver lists a GPU', '/proc/driver/nvidia/gpus', undefined, true],
    ['some GPUs are visible', '/dev/nvidia0', '1', true],
    ['there is no GPU', null, undefined, false],
    ['all GPUs are hidden', '/dev/nvidia0', '-1', false],
    ['the list of visible GPUs is empty', '/dev/nvidia0', '', false],
  ] as const)('%s', (_, present, visible, expected) => {
    expect(hasNvidiaGpu(only(present), visible)).toBe(expected);
  });
});

describe('TensorFlow', () => {
  it.each([
    [false, false],
    [true, true],
  ])('is accepted if the machine has a GPU: %s, and TensorFlow uses it: %s', (machineHasGpu, onGpu) => {
    expect(deviceProblem({ machineHasGpu, onGpu })).toBeNull();
  });

  it('is rejected, with the install command, if it does not use the GPU', () => {
    expect(deviceProblem({ machineHasGpu: true, onGpu: false })).toMatch(
      /npm run tensorflow:install -- --gpu/,
    );
  });

  it('gets its number of threads from the environment', () => {
    expect(threadEnvironment(3)).toEqual({ TF_NUM_INTRAOP_THREADS: '3', TF_NUM_INTEROP_THREADS: '1' });
  });
});
