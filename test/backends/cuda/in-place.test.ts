/** What a routed block adds takes the residual stream's place on cuda, and the backward pass puts the stream back to the bit. */
import { type Tensor, tensor2d } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { gatedScatterAdd } from '../../../src/ops/gated-scatter-add.js';
import { gatherTokens } from '../../../src/ops/gather-tokens.js';
import { residual } from '../../../src/ops/residual.js';
import { scope } from '../../../src/ops/scope.js';
import { Parameter, Tape } from '../../../src/ops/tape.js';
import { cuda, useCuda } from '../../support/cuda.js';
import { randomTensor } from '../../support/numbers.js';

/** [B, T, D] and the positions that are taken of each sequence, T for padding. */
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

describe.skipIf(!cuda.usable).each(['fp32', 'bf16'] as const)('in %s', (precision) => {
  it.each(CASES)('a stream of $shape is back after the backward pass', async ({ shape, positions }) => {
    await useCuda(precision);
    scope(() => {
      const [B, T, D] = shape;
      const k = (positions[0] as number[]).length;
      const indices = tensor2d(positions, [B, k], 'int32');
      const tape = new Tape();
      const track = (parameter: Parameter): Tensor => {
        const tensor = parameter.value.clone();
        tape.record([tensor], [parameter], [], ([d]) => [d as Tensor]);
        return tensor;
      };
      const start = track(new Parameter('x', randomTensor(shape, 'x')));
      const r = track(new Parameter('r', randomTensor([B, T], 'r')));
      const x = residual(tape, start, start); // stored as activations are
      const [held, before] = [x.clone(), x.dataSync().slice()];
      const taken = gatherTokens(tape, x, indices);
      const out = gatedScatterAdd(tape, x, residual(tape, taken, taken), r, indices, 'raw', taken);
      expect(out.dataId).toBe(x.dataId);
      expect(out.dataSync()).not.toEqual(before);
      tape.backward([{ output: out, gradient: randomTensor([B, T, D], 'gradient') }]);
      expect(held.dataSync()).toEqual(before);
    });
  });
});
