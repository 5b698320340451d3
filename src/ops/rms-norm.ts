/**
 * RmsNorm: y = x / sqrt(mean(x²) + 1e-6) · g (Zhang and Sennrich 2019, equation 4); AddRmsNorm: the same of a sum, which is
 * returned as well as the next value of the residual stream.
 */
import { add, mean, mul, reshape, rsqrt, square, sub, sum, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import { recordSum } from './residual.js';
import type { Parameter, Tape } from './tape.js';

export const RMS_NORM_EPSILON = 1e-6;

export interface RmsNormGradInputs extends Record<string, Tensor | undefined> {
  dy: Tensor;
  x: Tensor;
  gain: Tensor;
  inverseRms: Tensor;
  /** The accumulated gradient of x, which is consumed. */
  gradAccum: Tensor | undefined;
}

function normalise(x: Tensor, gain: Tensor): [y: Tensor, inverseRms: Tensor] {
  const inverseRms = rsqrt(add(mean(square(x), -1), RMS_NORM_EPSILON));
  return [mul(mul(x, reshape(inverseRms, [...inverseRms.shape, 1])), gain), inverseRms];
}

/** {x [.., D], gain [D]} → [y [.., D], inverseRms [..]] */
export const rmsNormKernel = defineKernel(
  'RmsNorm',
  ({ x, gain }: { x: Tensor; gain: Tensor }, _: object): [y: Tensor, inverseRms: Tensor] =>
    normalise(x, gain),
);

/** {x [.., D], branch [.., D], gain [D]} → [sum = x + branch, y = norm(sum), inverseRms [..]] */
export const addRmsNormKernel = defineKernel(
  'AddRmsNorm',
  ({ x, branch, gain }: { x: Tensor; branch: Tensor; gain: Tensor }, _: object): [Tensor, Tensor, Tensor] => {
    const total = add(x, branch);
    return [total, ...normalise(total, gain)];
  },
);

/**
 * {dy, x, gain, inverseRms, gradAccum?} → [dx, dgain]. With s the inverse RMS and n = x·s:
 * dx = gradAccum + s·(g·dy - n·mean(n·g·dy)), dgain = Σ_rows dy·n.
 */
export const rmsNormGradKernel = defineKernel(
  'RmsNormGrad',
  ({ dy, x, gain, inverseRms, gradAccum }: RmsNormGradInputs, _: object): [dx: Tensor, dgain: Tensor] => {
    const scale = reshape(inverseRms, [...inverseRms.shape, 1]);
    const normalised = mul(x, scale);
    const dNormalised = mul(dy, gain);
    const projection = mean(mul(normalised, dNormalised), -1, true);
    const dx = mul(scale, sub(dNormalised, mul(normalised, projection)));
    const width = x.shape[x.rank - 1] as number;
    return [
      gradAccum === undefined ? dx : add(gradAccum, dx),
      sum(reshape(mul(dy, normalised), [-1, width]), 0),
    ];
  },
);

/** y = x / sqrt(mean(x²) + 1e-6) · gain. x [.., D], gain [D] → [.., D] */
export function rmsNorm(tape: Tape | null, x: Tensor, gain: Parameter): Tensor {
  const [y, inverseRms] = rmsNormKernel({ x, gain: gain.value }, {});
  recordNorm(tape, x, y, inverseRms, gain);
  return y;
}

/** The residual addition and its norm in one pass: [x + branch, norm(x + branch)]. */
export function addRmsNorm(
  tape: Tape | null,
  x: Tensor,
  branch: Tensor,
  gain: Parameter,
): [sum: Tensor, y: Tensor] {
  const [total, y, inverseRms] = addRmsNormKernel({ x, branch, gain: gain.value }, {});
  recordSum(tape, total, x, branch);
  recordNorm(tape, total, y, inverseRms, gain);
  return [total, y];
}

function recordNorm(tape: Tape | null, x: Tensor, y: Tensor, inverseRms: Tensor, gain: Parameter): void {
  tape?.record([y], [x, gain], [x, inverseRms], ([dy], inputs) =>
    rmsNormGradKernel({ dy, x, gain: gain.value, inverseRms, gradAccum: inputs.gradAccum(0) }, {}),
  );
}
