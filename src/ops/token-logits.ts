/** TokenLogits: one number a token, r = w·x; what a router and a predictor's last layer are. In float32 always. */
import { add, matMul, mul, reshape, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import type { Parameter, Tape } from './tape.js';

export interface TokenLogitsGradInputs extends Record<string, Tensor | undefined> {
  dr: Tensor;
  x: Tensor;
  weight: Tensor;
  /** The gradient of x so far; it is added to and must not be used afterwards. */
  sofar: Tensor | undefined;
}

/** {x [B, T, D], weight [1, D]} → [r [B, T]] */
export const tokenLogitsKernel = defineKernel(
  'TokenLogits',
  ({ x, weight }: { x: Tensor; weight: Tensor }, _: object): [Tensor] => [
    reshape(matMul(reshape(x, [-1, x.shape[2] as number]), weight, false, true), x.shape.slice(0, 2)),
  ],
);

/** {dr [B, T], x [B, T, D], weight [1, D], sofar?} → [dx = sofar + dr⊗w, dweight = Σ dr·x] */
export const tokenLogitsGradKernel = defineKernel(
  'TokenLogitsGrad',
  ({ dr, x, weight, sofar }: TokenLogitsGradInputs, _: object): [dx: Tensor, dweight: Tensor] => {
    const dx = mul(reshape(dr, [...dr.shape, 1]), reshape(weight, [1, 1, -1]));
    const dweight = matMul(reshape(dr, [1, -1]), reshape(x, [-1, x.shape[2] as number]));
    return [sofar === undefined ? dx : add(sofar, dx), dweight];
  },
);

/** r_t = w·x_t (paper, section 3.3). x [B, T, D], weight [1, D] → [B, T] */
export function tokenLogits(tape: Tape | null, x: Tensor, weight: Parameter): Tensor {
  const [r] = tokenLogitsKernel({ x, weight: weight.value }, {});
  tape?.record([r], [x, weight], [x], ([dr], inputs) =>
    tokenLogitsGradKernel({ dr, x, weight: weight.value, sofar: inputs.sofar(0) }, {}),
  );
  return r;
}
