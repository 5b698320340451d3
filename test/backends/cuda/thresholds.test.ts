/** The running quantile in a step on cuda: one launch per routed block and micro-batch and one more, always on the same memory. */
import { afterEach, expect, it, vi } from 'vitest';
import type { Argument } from '../../../src/backends/cuda/driver/kernel-library.js';
import { type FakeCuda, startFakeCuda } from '../../support/fake-cuda.js';
import { fakeTraining } from '../../support/fake-training.js';

let cuda: FakeCuda | null = null;
afterEach(() => {
  cuda?.close();
  cuda = null;
});

const numberOf = (argument: Argument) => (typeof argument === 'number' ? argument : argument.value);

it.each([
  { shape: 'd64l4t64b6v256c0.25f2', microBatch: 6, blocks: 2, parts: 1 },
  { shape: 'd64l4t64b6v256c0.25f1', microBatch: 3, blocks: 4, parts: 2 },
  { shape: 'd64l2t64b4v256', microBatch: 4, blocks: 0, parts: 1 },
])('$shape with micro-batches of $microBatch', async ({ shape, microBatch, blocks, parts }) => {
  cuda = await startFakeCuda();
  const launch = vi.spyOn(cuda.backend, 'launch');
  const training = fakeTraining(cuda, shape, microBatch);
  /** The launches of the running quantile in one step, with the arguments that are addresses or sizes. */
  const stepLaunches = async () => {
    launch.mockClear();
    await training.run(1);
    return launch.mock.calls
      .filter(([file]) => file === 'threshold')
      .map(([, name, , args]) => ({ name, args: args.map(numberOf) }));
  };
  const [first, second, recorded] = [await stepLaunches(), await stepLaunches(), await stepLaunches()];
  const observed = first.filter(({ name }) => name === 'routedThreshold');
  const updates = first.filter(({ name }) => name === 'runningQuantile');
  expect(observed).toHaveLength(blocks * parts);
  expect(updates).toHaveLength(blocks === 0 ? 0 : 1);
  const [update] = updates;
  if (update !== undefined) {
    // τ of block j, sequence s is at 4·(j·B + s) from the start, which is what the update reads.
    const [thresholds, , state, rows, sequences] = update.args as [number, number, number, number, number];
    expect([rows, sequences]).toEqual([blocks, 6]);
    const offsets = observed.map(({ args }) => (args[2] as number) - thresholds);
    const expected = Array.from({ length: parts }, (_, part) =>
      Array.from({ length: blocks }, (_, block) => 4 * (block * 6 + part * microBatch)),
    ).flat();
    expect(offsets).toEqual(expected);
    for (const later of [second, recorded]) {
      const quantile = later.find(({ name }) => name === 'runningQuantile')?.args;
      expect([quantile?.[0], quantile?.[2]]).toEqual([thresholds, state]); // in place, as a replay needs it
    }
  }
  expect(await stepLaunches()).toEqual([]); // a replay is one launch of the graph
  training.dispose();
});
