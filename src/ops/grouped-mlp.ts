/** GroupedMlp: α·down_e(gelu(up_e(x))) for the rows of each expert e; a backend can fuse gelu into the products, as in Mlp. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { geluGradKernel, geluKernel } from './gelu.js';
import {
  type GroupedAttrs,
  groupedLinearGradInputKernel,
  groupedLinearGradWeightKernel,
  groupedLinearKernel,
} from './grouped-linear.js';
import { defineKernel } from './kernel.js';
import type { LinearInputs } from './linear.js';
import type { LinearGradInputGeluInputs } from './mlp.js';
import type { Parameter, Tape } from './tape.js';

/** {x [.., in] of E·R rows, weight [E·out, in]} → [after = gelu(before), before = x·Wᵀ of each expert], each [.., out] */
export const groupedLinearGeluKernel = defineKernel(
  'GroupedLinearGelu',
  (
    { x, weight }: LinearInputs,
    { experts }: Pick<GroupedAttrs, 'experts'>,
  ): [after: Tensor, before: Tensor] => {
    const [before] = groupedLinearKernel({ x, weight }, { experts, alpha: 1 });
    return [geluKernel({ x: before }, {})[0], before];
  },
);

/** {dy [.., out] of E·R rows, weight [E·out, in], before [.., in]} → [(α·dy·W of each expert)∘gelu'(before) [.., in]] */
export const groupedLinearGradInputGeluKernel = defineKernel(
  'GroupedLinearGradInputGelu',
  ({ dy, weight, before }: LinearGradInputGeluInputs, attrs: GroupedAttrs): [Tensor] =>
    geluGradKernel({ dy: groupedLinearGradInputKernel({ dy, weight }, attrs)[0], x: before }, {}),
);

/** The MLP of each expert, applied to its rows, times α. x [.., D] of E·R rows, up [E·F, D], down [E·D, F] → [.., D] */
export function groupedMlp(
  tape: Tape | null,
  x: Tensor,
  up: Parameter,
  down: Parameter,
  experts: number,
  alpha = 1,
): Tensor {
  const attrs = { experts, alpha };
  const unscaled = { experts, alpha: 1 };
  const [after, before] = groupedLinearGeluKernel({ x, weight: up.value }, { experts });
  const [y] = groupedLinearKernel({ x: after, weight: down.value }, attrs);
  tape?.record([y], [x, up, down], [x, before, after], ([dy], inputs) => {
    const [ddown] = groupedLinearGradWeightKernel({ dy, x: after, gradAccum: inputs.gradAccum(2) }, attrs);
    inputs.done(after);
    const [dbefore] = groupedLinearGradInputGeluKernel({ dy, weight: down.value, before }, attrs);
    const [dup] = groupedLinearGradWeightKernel({ dy: dbefore, x, gradAccum: inputs.gradAccum(1) }, unscaled);
    const [dx] = groupedLinearGradInputKernel({ dy: dbefore, weight: up.value }, unscaled);
    return [dx, dup, ddown];
  });
  return y;
}
