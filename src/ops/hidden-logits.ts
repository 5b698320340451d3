/** HiddenLogits: what a predictor does behind its first product: bias, gelu, and one number a token. In float32 at its end. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { biasGradKernel, biasKernel } from './bias.js';
import { geluGradKernel, geluKernel } from './gelu.js';
import { defineKernel } from './kernel.js';
import { linearGradInputKernel, linearGradWeightKernel, linearKernel } from './linear.js';
import type { Parameter, Tape } from './tape.js';
import { tokenLogitsGradKernel, tokenLogitsKernel } from './token-logits.js';

export interface HiddenLogitsInputs extends Record<string, Tensor> {
  /** [B, T, P] */
  before: Tensor;
  /** [P] */
  bias: Tensor;
  /** [1, P] */
  weight: Tensor;
}

const hiddenOf = ({ before, bias }: HiddenLogitsInputs): [biased: Tensor, hidden: Tensor] => {
  const [biased] = biasKernel({ x: before, bias }, {});
  return [biased, geluKernel({ x: biased }, {})[0]];
};

/** {before [B, T, P], bias [P], weight [1, P], bias2 [1]} → [logits [B, T]] = weight·gelu(before + bias) + bias2 */
export const hiddenLogitsKernel = defineKernel(
  'HiddenLogits',
  ({ bias2, ...inputs }: HiddenLogitsInputs & { bias2: Tensor }, _: object): [Tensor] => {
    const [logits] = tokenLogitsKernel({ x: hiddenOf(inputs)[1], weight: inputs.weight }, {});
    return biasKernel({ x: logits, bias: bias2 }, {});
  },
);

/**
 * {dlogits [B, T], before, bias, weight} → [dbefore [B, T, P], dbias [P], dweight [1, P], dbias2 [1]]. With
 * h = gelu(before + bias): dbefore = dlogits⊗weight∘gelu', dbias = Σ dbefore, dweight = Σ dlogits·h, dbias2 = Σ dlogits.
 */
export const hiddenLogitsGradKernel = defineKernel(
  'HiddenLogitsGrad',
  (
    { dlogits, ...inputs }: HiddenLogitsInputs & { dlogits: Tensor },
    _: object,
  ): [dbefore: Tensor, dbias: Tensor, dweight: Tensor, dbias2: Tensor] => {
    const { weight, bias } = inputs;
    const [biased, hidden] = hiddenOf(inputs);
    const [dhidden, dweight] = tokenLogitsGradKernel(
      { dr: dlogits, x: hidden, weight, sofar: undefined },
      {},
    );
    const [dbefore] = geluGradKernel({ dy: dhidden, x: biased }, {});
    const [dbias] = biasGradKernel({ dy: dbefore }, { width: bias.size });
    const [dbias2] = biasGradKernel({ dy: dlogits }, { width: 1 });
    return [dbefore, dbias, dweight, dbias2];
  },
);

/** fc2(gelu(fc1(x))) with biases, one number a token. x [B, T, D], fc1 [P, D], fc1Bias [P], fc2 [1, P], fc2Bias [1] → [B, T] */
export function hiddenLogits(
  tape: Tape | null,
  x: Tensor,
  fc1: Parameter,
  fc1Bias: Parameter,
  fc2: Parameter,
  fc2Bias: Parameter,
): Tensor {
  const [before] = linearKernel({ x, weight: fc1.value }, {});
  const rest = () => ({ before, bias: fc1Bias.value, weight: fc2.value });
  const [logits] = hiddenLogitsKernel({ ...rest(), bias2: fc2Bias.value }, {});
  tape?.record([logits], [x, fc1, fc1Bias, fc2, fc2Bias], [x, before], ([dlogits], inputs) => {
    const [dbefore, dbias, dweight, dbias2] = hiddenLogitsGradKernel({ dlogits, ...rest() }, {});
    const [dfc1] = linearGradWeightKernel({ dy: dbefore, x, sofar: inputs.sofar(1) }, {});
    const dx = inputs.needed(0) ? linearGradInputKernel({ dy: dbefore, weight: fc1.value }, {})[0] : null;
    return [dx, dfc1, dbias, dweight, dbias2];
  });
  return logits;
}
