/** GroupedLinear: y_e = α·x_e·W_eᵀ for equal groups of rows, one for each expert e, as a batched product; and its gradients. */
import { add, matMul, reshape, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import {
  type LinearAttrs,
  type LinearGradInputInputs,
  type LinearGradWeightInputs,
  type LinearInputs,
  scaledBy,
} from './linear.js';

/** The rows of x and of the weight are grouped by expert. */
export interface GroupedAttrs extends LinearAttrs {
  experts: number;
}

/** [.., width] → [E, rows of one expert, width] */
const grouped = (x: Tensor, experts: number) => reshape(x, [experts, -1, x.shape[x.rank - 1] as number]);
const withWidth = (x: Tensor, width: number) => [...x.shape.slice(0, -1), width];

/** {x [.., in] of E·R rows, weight [E·out, in]} → [y [.., out]]: y_e = α·x_e·W_eᵀ for each expert e */
export const groupedLinearKernel = defineKernel(
  'GroupedLinear',
  ({ x, weight }: LinearInputs, { experts, alpha }: GroupedAttrs): [Tensor] => {
    const y = scaledBy(matMul(grouped(x, experts), grouped(weight, experts), false, true), alpha);
    return [reshape(y, withWidth(x, y.shape[2] as number))];
  },
);

/** {dy [.., out], weight [E·out, in]} → [dx [.., in]]: dx_e = α·dy_e·W_e */
export const groupedLinearGradInputKernel = defineKernel(
  'GroupedLinearGradInput',
  ({ dy, weight }: LinearGradInputInputs, { experts, alpha }: GroupedAttrs): [Tensor] => {
    const dx = scaledBy(matMul(grouped(dy, experts), grouped(weight, experts)), alpha);
    return [reshape(dx, withWidth(dy, weight.shape[1] as number))];
  },
);

/** {dy [.., out], x [.., in], gradAccum? [E·out, in]} → [dweight [E·out, in]]: dW_e = gradAccum_e + α·dy_eᵀ·x_e */
export const groupedLinearGradWeightKernel = defineKernel(
  'GroupedLinearGradWeight',
  ({ dy, x, gradAccum }: LinearGradWeightInputs, { experts, alpha }: GroupedAttrs): [Tensor] => {
    const product = scaledBy(matMul(grouped(dy, experts), grouped(x, experts), true, false), alpha);
    const gradient = reshape(product, [-1, x.shape[x.rank - 1] as number]);
    return [gradAccum === undefined ? gradient : add(gradAccum, gradient)];
  },
);
