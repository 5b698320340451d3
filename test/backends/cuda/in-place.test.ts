/** On cuda a routed block that overwrites the residual stream gives the same values and gradients. */
import { type Tensor, tensor2d } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { gatedScatterAdd } from '../../../src/ops/gated-scatter-add.js';
import { residual } from '../../../src/ops/residual.js';
import { routedGather } from '../../../src/ops/routed-gather.js';
import { routerLogits } from '../../../src/ops/router-logits.js';
import { scope } from '../../../src/ops/scope.js';
import { Parameter, Tape } from '../../../src/ops/tape.js';
import { cuda, useCuda } from '../../support/cuda.js';
import { randomTensor } from '../../support/numbers.js';

/** [B, T, D] and the selected positions of each sequence, T for padding. */
const CASES: { shape: [number, number, number]; positions: number[][] }[] = [
  {
    shape: [2, 9, 320],
    positions: [
      [0, 4, 8],
      [1, 2, 9],
    ],
  },
  { shape: [1, 7, 33], positions: [[6]] },
  { shape: [1, 5, 24], positions: [[0, 1, 2, 3, 4]] },
];

/** [the stream after two routed blocks, the gradients of its start and of the router] */
function numbers(shape: [number, number, number], positions: number[][], inPlace: boolean): Float32Array[] {
  return scope(() => {
    const indices = tensor2d(positions, [shape[0], (positions[0] as number[]).length], 'int32');
    const tape = new Tape();
    const start = new Parameter('x', randomTensor(shape, 'x'));
    const router = new Parameter('router', randomTensor([1, shape[2]], 'router'));
    const tracked = start.value.clone();
    tape.record([tracked], [start], [], ([d]) => [d as Tensor]);
    let x = residual(tape, tracked, tracked); // stored as activations are
    for (let block = 0; block < 2; block++) {
      const r = routerLogits(x, router);
      const selected = routedGather(tape, x, r, router, indices);
      const out = gatedScatterAdd(tape, x, residual(tape, selected, selected), r, indices, 'raw', inPlace);
      expect(out.dataId === x.dataId).toBe(inPlace);
      x = out;
    }
    const after = x.dataSync();
    tape.backward([{ output: x, gradient: randomTensor(shape, 'gradient') }]);
    const gradients = [start, router].map(({ grad }) => (grad as Tensor).dataSync());
    for (const parameter of [start, router]) parameter.clearGrad();
    return [after, ...gradients].map((values) => Float32Array.from(values));
  });
}

describe.skipIf(!cuda.usable).each(['fp32', 'bf16'] as const)('in %s', (precision) => {
  it.each(CASES)('a stream of $shape gives the same in place', async ({ shape, positions }) => {
    await useCuda(precision);
    expect(numbers(shape, positions, true)).toEqual(numbers(shape, positions, false));
  });
});
