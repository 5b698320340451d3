/** Reshape with a gradient, for blocks that treat the rows of a batch as one sequence. */
import { reshape, type Tensor } from '@tensorflow/tfjs-core';
import type { Tape } from './tape.js';

/** x in another shape with the same number of elements, without a copy. */
export function reshaped(tape: Tape | null, x: Tensor, shape: number[]): Tensor {
  const y = reshape(x, shape);
  tape?.record([y], [x], [], ([d]) => [reshape(d, x.shape)]);
  return y;
}
