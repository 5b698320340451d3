/** GroupedLinear: rows divided evenly among experts, each with a matrix of its own, as one product of batches; its gradients. */
import { add, matMul, reshape, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import type { LinearGradInputInputs, LinearGradWeightInputs, LinearInputs } from './linear.js';

/** x's rows and the weight's are those of the experts, one expert after another. */
export interface GroupedAttrs {
  experts: number;
}

/** [E, rows of an expert, width] of a tensor [.., width]. */
const grouped = (x: Tensor, experts: number) => reshape(x, [experts, -1, x.shape[x.rank - 1] as number]);
const withWidth = (x: Tensor, width: number) => [...x.shape.slice(0, -1), width];

/** {x [.., in] of E·R rows, weight [E·out, in]} → [y [.., out]]: expert e's rows times its matrixᵀ */
export const groupedLinearKernel = defineKernel(
  'GroupedLinear',
  ({ x, weight }: LinearInputs, { experts }: GroupedAttrs): [Tensor] => {
    const y = matMul(grouped(x, experts), grouped(weight, experts), false, true);
    return [reshape(y, withWidth(x, y.shape[2] as number))];
  },
);

/** {dy [.., out], weight [E·out, in]} → [dx [.., in]] */
export const groupedLinearGradInputKernel = defineKernel(
  'GroupedLinearGradInput',
  ({ dy, weight }: LinearGradInputInputs, { experts }: GroupedAttrs): [Tensor] => [
    reshape(matMul(grouped(dy, experts), grouped(weight, experts)), withWidth(dy, weight.shape[1] as number)),
  ],
);

/** {dy [.., out], x [.., in], gradAccum? [E·out, in]} → [dweight [E·out, in]] = gradAccum + dyᵀ·x of each expert */
export const groupedLinearGradWeightKernel = defineKernel(
  'GroupedLinearGradWeight',
  ({ dy, x, gradAccum }: LinearGradWeightInputs, { experts }: GroupedAttrs): [Tensor] => {
    const product = matMul(grouped(dy, experts), grouped(x, experts), true, false);
    const gradient = reshape(product, [-1, x.shape[x.rank - 1] as number]);
    return [gradAccum === undefined ? gradient : add(gradAccum, gradient)];
  },
);
