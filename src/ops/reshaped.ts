/** The same elements in another shape, where the tape has to follow: what is done to a batch's rows as one sequence. */
import { reshape, type Tensor } from '@tensorflow/tfjs-core';
import type { Tape } from './tape.js';

/** x in another shape of as many elements, without a copy. */
export function reshaped(tape: Tape | null, x: Tensor, shape: number[]): Tensor {
  const y = reshape(x, shape);
  tape?.record([y], [x], [], ([d]) => [reshape(d, x.shape)]);
  return y;
}
