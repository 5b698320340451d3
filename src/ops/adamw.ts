/**
 * AdamW: one Adam step with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2) and global-norm clipping, for one
 * parameter or for all at once.
 */
import {
  add,
  div,
  equal,
  minimum,
  mul,
  slice,
  sqrt,
  square,
  sub,
  type Tensor,
  where,
} from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';

export interface AdamWInputs extends Record<string, Tensor> {
  value: Tensor;
  grad: Tensor;
  /** First moment. */
  mean: Tensor;
  /** Second moment, uncentred. */
  variance: Tensor;
  /** The global gradient norm, a scalar. If it is not finite, nothing is updated. */
  norm: Tensor;
  /** [learning rate, 1 - beta1^step, 1 - beta2^step]: a tensor, since the attributes of a recorded step are fixed. */
  schedule: Tensor;
}

export interface AdamWAttrs {
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  /** Factor of the learning rate for this parameter. */
  rateFactor: number;
  /** Gradients are scaled by min(1, maxNorm / (norm + 1e-6)), as PyTorch's clip_grad_norm_ does; 0: no clipping. */
  maxNorm: number;
}

export const CLIP_EPSILON = 1e-6;

/**
 * → [value, mean, variance] after the step. With g = grad·min(1, maxNorm/(norm + 1e-6)), mean = β1·mean + (1 - β1)·g and
 * variance = β2·variance + (1 - β2)·g², and lr = the schedule's rate · rateFactor:
 * value = value·(1 - lr·weightDecay) - lr·(mean/(1 - β1^step)) / (sqrt(variance/(1 - β2^step)) + ε),
 * the decay scaled by the learning rate as in PyTorch. If the norm is not finite, all three are returned unchanged, so that
 * NaN never reaches the weights. The inputs value, mean and variance are consumed: a backend may overwrite them.
 */
export const adamWKernel = defineKernel(
  'AdamW',
  (inputs: AdamWInputs, attrs: AdamWAttrs): [value: Tensor, mean: Tensor, variance: Tensor] => {
    const { beta1, beta2, epsilon, weightDecay, rateFactor, maxNorm } = attrs;
    const [scheduled, correction1, correction2] = [0, 1, 2].map((i) => slice(inputs.schedule, [i], [1])) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const rate = mul(scheduled, rateFactor);
    const gradient =
      maxNorm > 0 ? mul(inputs.grad, minimum(1, div(maxNorm, add(inputs.norm, CLIP_EPSILON)))) : inputs.grad;
    const mean = add(mul(inputs.mean, beta1), mul(gradient, 1 - beta1));
    const variance = add(mul(inputs.variance, beta2), mul(square(gradient), 1 - beta2));
    const step = div(div(mean, correction1), add(sqrt(div(variance, correction2)), epsilon));
    const decayed = mul(inputs.value, sub(1, mul(rate, weightDecay)));
    const finite = equal(sub(inputs.norm, inputs.norm), 0); // infinity - infinity is NaN as well
    return [
      where(finite, sub(decayed, mul(rate, step)), inputs.value),
      where(finite, mean, inputs.mean),
      where(finite, variance, inputs.variance),
    ];
  },
);

/** A parameter's value, its gradient and its two moments. */
export interface AdamWState {
  value: Tensor;
  grad: Tensor;
  mean: Tensor;
  variance: Tensor;
}

/** AdamWAttrs with a weight decay and a factor of the learning rate for each parameter. */
export interface AdamWStepAttrs extends Omit<AdamWAttrs, 'weightDecay' | 'rateFactor'> {
  weightDecays: number[];
  rateFactors: number[];
}

/**
 * AdamW for any number of parameters: {value.0, grad.0, mean.0, variance.0, value.1, ..., norm, schedule} →
 * [value.0, mean.0, variance.0, value.1, ...]. A backend may update all in one launch; inputs are consumed as in AdamW.
 */
export const adamWStepKernel = defineKernel(
  'AdamWStep',
  (inputs: Record<string, Tensor>, { weightDecays, rateFactors, ...attrs }: AdamWStepAttrs): Tensor[] => {
    const shared = { norm: inputs.norm as Tensor, schedule: inputs.schedule as Tensor };
    return adamWStates(inputs, weightDecays.length).flatMap((state, i) =>
      adamWKernel(
        { ...state, ...shared },
        {
          ...attrs,
          weightDecay: weightDecays[i] as number,
          rateFactor: rateFactors[i] as number,
        },
      ),
    );
  },
);

const STATE_NAMES = ['value', 'grad', 'mean', 'variance'] as const;

/** The inputs of adamWStepKernel, grouped by parameter, in order. */
export function adamWStates(inputs: Record<string, Tensor>, count: number): AdamWState[] {
  return Array.from({ length: count }, (_, i) => {
    const [value, grad, mean, variance] = STATE_NAMES.map((name) => inputs[`${name}.${i}`]);
    return { value, grad, mean, variance } as AdamWState;
  });
}

/** One AdamW step for all parameters; norm and schedule as in AdamWInputs. */
export function adamWStep(
  states: AdamWState[],
  norm: Tensor,
  schedule: Tensor,
  attrs: AdamWStepAttrs,
): [value: Tensor, mean: Tensor, variance: Tensor][] {
  const named = states.flatMap((state, i) =>
    STATE_NAMES.map((name) => [`${name}.${i}`, state[name]] as const),
  );
  const outputs = adamWStepKernel({ ...Object.fromEntries(named), norm, schedule }, attrs);
  return states.map((_, i) => outputs.slice(3 * i, 3 * i + 3) as [Tensor, Tensor, Tensor]);
}
