/**
 * ExpertLogits: the router of a mixture of experts, x·weightᵀ: one logit for each token and choice, experts first, then no-ops.
 * Always float32.
 */
import { add, matMul, reshape, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import { rowsOf } from './linear.js';
import type { Parameter, Tape } from './tape.js';

export interface ExpertLogitsGradInputs extends Record<string, Tensor | undefined> {
  dlogits: Tensor;
  x: Tensor;
  weight: Tensor;
  /** The accumulated gradient of x, which is consumed. */
  gradAccum: Tensor | undefined;
}

/** {x [B, n, D], weight [C, D]} → [logits [B, n, C]] = x·weightᵀ */
export const expertLogitsKernel = defineKernel(
  'ExpertLogits',
  ({ x, weight }: { x: Tensor; weight: Tensor }, _: object): [Tensor] => [
    reshape(matMul(rowsOf(x), weight, false, true), [...x.shape.slice(0, -1), weight.shape[0]]),
  ],
);

/** {dlogits [B, n, C], x [B, n, D], weight [C, D], gradAccum?} → [dx = gradAccum + dlogits·weight, dweight = dlogitsᵀ·x] */
export const expertLogitsGradKernel = defineKernel(
  'ExpertLogitsGrad',
  ({ dlogits, x, weight, gradAccum }: ExpertLogitsGradInputs, _: object): [dx: Tensor, dweight: Tensor] => {
    const dx = reshape(matMul(rowsOf(dlogits), weight), x.shape);
    return [
      gradAccum === undefined ? dx : add(gradAccum, dx),
      matMul(rowsOf(dlogits), rowsOf(x), true, false),
    ];
  },
);

/** x·weightᵀ (Fedus et al. 2022, section 2.1). x [B, n, D], weight [C, D] → [B, n, C] */
export function expertLogits(tape: Tape | null, x: Tensor, weight: Parameter): Tensor {
  const [logits] = expertLogitsKernel({ x, weight: weight.value }, {});
  tape?.record([logits], [x, weight], [x], ([dlogits], inputs) =>
    expertLogitsGradKernel({ dlogits, x, weight: weight.value, gradAccum: inputs.gradAccum(0) }, {}),
  );
  return logits;
}
