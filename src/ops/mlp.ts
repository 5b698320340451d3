/** Mlp: down(gelu(up(x))); in kernels that let a backend fuse gelu and its derivative into the adjacent products. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { geluGradKernel, geluKernel } from './gelu.js';
import { defineKernel } from './kernel.js';
import {
  type LinearGradInputInputs,
  type LinearInputs,
  linearGradInputKernel,
  linearGradWeightKernel,
  linearKernel,
} from './linear.js';
import type { Parameter, Tape } from './tape.js';

export interface LinearGradInputGeluInputs extends LinearGradInputInputs {
  /** The input of gelu: [.., in]. */
  before: Tensor;
}

/** {x [.., in], weight [out, in]} → [after = gelu(before), before = x·Wᵀ], each [.., out] */
export const linearGeluKernel = defineKernel(
  'LinearGelu',
  ({ x, weight }: LinearInputs, _: object): [after: Tensor, before: Tensor] => {
    const [before] = linearKernel({ x, weight }, {});
    return [geluKernel({ x: before }, {})[0], before];
  },
);

/** {dy [.., out], weight [out, in], before [.., in]} → [(dy·W)∘gelu'(before) [.., in]] */
export const linearGradInputGeluKernel = defineKernel(
  'LinearGradInputGelu',
  ({ dy, weight, before }: LinearGradInputGeluInputs, _: object): [Tensor] =>
    geluGradKernel({ dy: linearGradInputKernel({ dy, weight }, {})[0], x: before }, {}),
);

/** down(gelu(up(x))), gelu in its tanh form. x [.., D], up [F, D], down [D, F] → [.., D] */
export function mlp(tape: Tape | null, x: Tensor, up: Parameter, down: Parameter): Tensor {
  const [after, before] = linearGeluKernel({ x, weight: up.value }, {});
  const [y] = linearKernel({ x: after, weight: down.value }, {});
  tape?.record([y], [x, up, down], [x, before, after], ([dy], inputs) => {
    const [ddown] = linearGradWeightKernel({ dy, x: after, gradAccum: inputs.gradAccum(2) }, {});
    inputs.done(after);
    const [dbefore] = linearGradInputGeluKernel({ dy, weight: down.value, before }, {});
    const [dup] = linearGradWeightKernel({ dy: dbefore, x, gradAccum: inputs.gradAccum(1) }, {});
    const dx = inputs.needed(0) ? linearGradInputKernel({ dy: dbefore, weight: up.value }, {})[0] : null;
    return [dx, dup, ddown];
  });
  return y;
}
