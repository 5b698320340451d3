/** Residual: x + y; the gradient of each term is the gradient of the sum. */
import { add, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import type { Tape } from './tape.js';

/** {x, y} of one shape → [x + y] */
export const residualKernel = defineKernel(
  'Residual',
  ({ x, y }: { x: Tensor; y: Tensor }, _: object): [Tensor] => [add(x, y)],
);

/** x + y, of one shape. */
export function residual(tape: Tape | null, x: Tensor, y: Tensor): Tensor {
  const [sum] = residualKernel({ x, y }, {});
  recordSum(tape, sum, x, y);
  return sum;
}

/** Records sum = x + y, which a kernel has computed. */
export function recordSum(tape: Tape | null, sum: Tensor, x: Tensor, y: Tensor): void {
  tape?.record([sum], [x, y], [], ([d]) => [d, d]);
}
