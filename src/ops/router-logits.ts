/** RouterLogits: one number a token, r = w·x; what a router and a predictor's last layer are. In float32 always. */
import { add, matMul, mul, reshape, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import { residualKernel } from './residual.js';
import type { Parameter, Tape } from './tape.js';

export interface RouterLogitsGradInputs extends Record<string, Tensor | undefined> {
  dr: Tensor;
  x: Tensor;
  weight: Tensor;
  /** The gradient of x so far; it is added to and must not be used afterwards. */
  gradAccum: Tensor | undefined;
}

/** {x [B, T, D], weight [1, D]} → [r [B, T]] */
export const routerLogitsKernel = defineKernel(
  'RouterLogits',
  ({ x, weight }: { x: Tensor; weight: Tensor }, _: object): [Tensor] => [
    reshape(matMul(reshape(x, [-1, x.shape[2] as number]), weight, false, true), x.shape.slice(0, 2)),
  ],
);

/** {x [B, T, D], branch [B, T, D], weight [1, D]} → [sum = x + branch, r [B, T] of it] */
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

/** r_t = w·x_t (paper, section 3.3). x [B, T, D], weight [1, D] → [B, T]; how r depends on them is not recorded. */
export function routerLogits(x: Tensor, weight: Parameter): Tensor {
  return routerLogitsKernel({ x, weight: weight.value }, {})[0];
}

/**
 * The residual addition and the logits of its result in one pass: [x + branch, r = w·(x + branch)]. How r depends on them is
 * not recorded.
 */
export function addRouterLogits(
  tape: Tape | null,
  x: Tensor,
  branch: Tensor,
  weight: Parameter,
): [sum: Tensor, r: Tensor] {
  const [total, r] = addRouterLogitsKernel({ x, branch, weight: weight.value }, {});
  tape?.record([total], [x, branch], [], ([d]) => [d, d]);
  return [total, r];
}

/** Records how logits r [B, T] depend on every token of x [B, T, D], which is saved, and on the weight. */
export function recordRouterLogits(tape: Tape | null, x: Tensor, r: Tensor, weight: Parameter): void {
  tape?.record([r], [x, weight], [x], ([dr], inputs) =>
    routerLogitsGradKernel({ dr, x, weight: weight.value, gradAccum: inputs.gradAccum(0) }, {}),
  );
}
