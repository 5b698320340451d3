/** Mlp: α·down(gelu(up(x))); in kernels that let a backend fuse gelu and its derivative into the adjacent products. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { geluGradKernel, geluKernel } from './gelu.js';
import { defineKernel } from './kernel.js';
import {
  type LinearAttrs,
  type LinearGradInputInputs,
  type LinearInputs,
  linearGradInputKernel,
  linearGradWeightKernel,
  linearKernel,
} from './linear.js';
import type { Parameter, Tape } from './tape.js';

const UNSCALED: LinearAttrs = { alpha: 1 };

export interface LinearGradInputGeluInputs extends LinearGradInputInputs {
  /** The input of gelu: [.., in]. */
  before: Tensor;
}

/** {x [.., in], weight [out, in]} → [after = gelu(before), before = x·Wᵀ], each [.., out] */
export const linearGeluKernel = defineKernel(
  'LinearGelu',
  ({ x, weight }: LinearInputs, _: object): [after: Tensor, before: Tensor] => {
    const [before] = linearKernel({ x, weight }, UNSCALED);
    return [geluKernel({ x: before }, {})[0], before];
  },
);

/** {dy [.., out], weight [out, in], before [.., in]} → [(α·dy·W)∘gelu'(before) [.., in]] */
export const linearGradInputGeluKernel = defineKernel(
  'LinearGradInputGelu',
  ({ dy, weight, before }: LinearGradInputGeluInputs, attrs: LinearAttrs): [Tensor] =>
    geluGradKernel({ dy: linearGradInputKernel({ dy, weight }, attrs)[0], x: before }, {}),
);

/** α·down(gelu(up(x))), gelu in its tanh form. x [.., D], up [F, D], down [D, F] → [.., D] */
export function mlp(tape: Tape | null, x: Tensor, up: Parameter, down: Parameter, alpha = 1): Tensor {
  const attrs = { alpha };
  const [after, before] = linearGeluKernel({ x, weight: up.value }, {});
  const [y] = linearKernel({ x: after, weight: down.value }, attrs);
  tape?.record([y], [x, up, down], [x, before, after], ([dy], inputs) => {
    const [ddown] = linearGradWeightKernel({ dy, x: after, gradAccum: inputs.gradAccum(2) }, attrs);
    inputs.done(after);
    const [dbefore] = linearGradInputGeluKernel({ dy, weight: down.value, before }, attrs);
    const [dup] = linearGradWeightKernel({ dy: dbefore, x, gradAccum: inputs.gradAccum(1) }, UNSCALED);
    const dx = inputs.needed(0)
      ? linearGradInputKernel({ dy: dbefore, weight: up.value }, UNSCALED)[0]
      : null;
    return [dx, dup, ddown];
  });
  return y;
}
