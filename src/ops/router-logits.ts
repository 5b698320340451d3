/** RouterLogits: the router weight of each token, r_t = w·x_t (Raposo et al. 2024, equation 1). Always float32. */
import { add, matMul, mul, reshape, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import { recordSum, residualKernel } from './residual.js';
import type { Parameter, Tape } from './tape.js';

export interface RouterLogitsGradInputs extends Record<string, Tensor | undefined> {
  dr: Tensor;
  x: Tensor;
  weight: Tensor;
  /** The accumulated gradient of x, which is consumed. */
  gradAccum: Tensor | undefined;
}

/** {x [B, T, D], weight [1, D]} → [r [B, T]] */
export const routerLogitsKernel = defineKernel(
  'RouterLogits',
  ({ x, weight }: { x: Tensor; weight: Tensor }, _: object): [Tensor] => [
    reshape(matMul(reshape(x, [-1, x.shape[2] as number]), weight, false, true), x.shape.slice(0, 2)),
  ],
);

/** {x [B, T, D], branch [B, T, D], weight [1, D]} → [sum = x + branch, r [B, T] = w·sum] */
export const addRouterLogitsKernel = defineKernel(
  'AddRouterLogits',
  ({ x, branch, weight }: { x: Tensor; branch: Tensor; weight: Tensor }, _: object): [Tensor, Tensor] => {
    const [total] = residualKernel({ x, y: branch }, {});
    return [total, routerLogitsKernel({ x: total, weight }, {})[0]];
  },
);

/** {dr [B, T], x [B, T, D], weight [1, D], gradAccum?} → [dx = gradAccum + dr⊗w, dweight = Σ dr·x] */
export const routerLogitsGradKernel = defineKernel(
  'RouterLogitsGrad',
  ({ dr, x, weight, gradAccum }: RouterLogitsGradInputs, _: object): [dx: Tensor, dweight: Tensor] => {
    const dx = mul(reshape(dr, [...dr.shape, 1]), reshape(weight, [1, 1, -1]));
    const dweight = matMul(reshape(dr, [1, -1]), reshape(x, [-1, x.shape[2] as number]));
    return [gradAccum === undefined ? dx : add(gradAccum, dx), dweight];
  },
);

/** r_t = w·x_t, not recorded on a tape: see recordRouterLogits. x [B, T, D], weight [1, D] → [B, T] */
export function routerLogits(x: Tensor, weight: Parameter): Tensor {
  return routerLogitsKernel({ x, weight: weight.value }, {})[0];
}

/**
 * The residual addition and its router weights in one pass: [x + branch, r = w·(x + branch)]. Only the sum is recorded on the
 * tape.
 */
export function addRouterLogits(
  tape: Tape | null,
  x: Tensor,
  branch: Tensor,
  weight: Parameter,
): [sum: Tensor, r: Tensor] {
  const [total, r] = addRouterLogitsKernel({ x, branch, weight: weight.value }, {});
  recordSum(tape, total, x, branch);
  return [total, r];
}

/** Records r [B, T] = w·x as a function of all tokens of x [B, T, D] and of the weight; saves x. */
export function recordRouterLogits(tape: Tape | null, x: Tensor, r: Tensor, weight: Parameter): void {
  tape?.record([r], [x, weight], [x], ([dr], inputs) =>
    routerLogitsGradKernel({ dr, x, weight: weight.value, gradAccum: inputs.gradAccum(0) }, {}),
  );
}
