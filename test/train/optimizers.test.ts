/** Every optimizer with non-finite gradients or losses: weights and state keep their values on every backend. */
import { fill, keep, type Tensor, tensor } from '@tensorflow/tfjs-core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Parameter } from '../../src/ops/tape.js';
import type { Optimizer } from '../../src/train/optimizer.js';
import { createOptimizer, OPTIMIZER_NAMES } from '../../src/train/optimizers.js';
import { TEST_BACKENDS, useBackend } from '../support/backends.js';
import { randomTensor } from '../support/numbers.js';

const CASES = OPTIMIZER_NAMES.flatMap((name) => TEST_BACKENDS.map((backend) => [name, backend] as const));

describe.each(CASES)('%s on %s', (name, backend) => {
  let parameters: Parameter[];
  let optimizer: Optimizer;
  beforeEach(async () => {
    await useBackend(backend);
    parameters = [
      new Parameter('a', keep(randomTensor([5, 7], 'a'))),
      new Parameter('b', keep(randomTensor([3], 'b'))),
    ];
    optimizer = createOptimizer(parameters, { weightDecay: 0.1, gradientClip: 1 }, name);
    step([0.5, 0.5], [1]);
  });
  afterEach(() => optimizer.dispose());

  /** One update; returns the gradient norm. */
  function step(gradients: [number, number], losses: number[]): number {
    parameters.forEach((parameter, i) => {
      parameter.grad = keep(fill(parameter.value.shape, gradients[i] as number));
    });
    const schedule = tensor(optimizer.nextSchedule(0.01));
    const norm = optimizer.apply(
      schedule,
      losses.map((loss) => tensor(loss)),
    );
    return norm.dataSync()[0] as number;
  }

  const state = () => {
    const tensors = parameters.flatMap((parameter): Tensor[] => {
      return [parameter.value, ...Object.values<Tensor>(optimizer.state.get(parameter) ?? {})];
    });
    return tensors.map((each) => Array.from(each.dataSync()));
  };

  it.each([
    ['a NaN gradient', [Number.NaN, 1], [1, 1]],
    ['an infinite gradient', [1, Number.POSITIVE_INFINITY], [1, 1]],
    ['a NaN loss', [1, 1], [1, Number.NaN]],
    ['an infinite loss', [1, 1], [Number.POSITIVE_INFINITY, 1]],
  ] as const)('keeps weights and state after %s, and continues', (_, gradients, losses) => {
    const before = state();
    expect(step([...gradients], [...losses])).not.toBeLessThan(Number.POSITIVE_INFINITY);
    expect(state()).toEqual(before);
    expect(step([1, 1], [1, 1])).toBeCloseTo(Math.sqrt(38), 5);
    expect(state()).not.toEqual(before);
    expect(state().flat().every(Number.isFinite)).toBe(true);
  });
});
