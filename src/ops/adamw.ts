/** AdamW: one decoupled-decay Adam update, with global-norm clipping inside, of one parameter or of all at once. */
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
  /** Second moment, not centred. */
  variance: Tensor;
  /** The global gradient norm, a scalar. Where it is not finite, nothing is updated. */
  norm: Tensor;
  /** [learning rate, 1 - beta1^step, 1 - beta2^step]: a tensor, since a captured step cannot change its attributes. */
  schedule: Tensor;
}

export interface AdamWAttrs {
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  /** Gradients are scaled by min(1, maxNorm / (norm + 1e-6)), as PyTorch's clip_grad_norm_ does; 0: no clipping. */
  maxNorm: number;
}

export const CLIP_EPSILON = 1e-6;

/**
 * → [value, mean, variance] after the step (Loshchilov and Hutter 2019, algorithm 2, decay scaled by the learning
 * rate as PyTorch does). The inputs value, mean and variance are dead afterwards: a backend may write in their place.
 * Under a norm that is not finite all three come back as they were: what is no number never reaches the weights.
 */
export const adamWKernel = defineKernel(
  'AdamW',
  (inputs: AdamWInputs, attrs: AdamWAttrs): [value: Tensor, mean: Tensor, variance: Tensor] => {
    const { beta1, beta2, epsilon, weightDecay, maxNorm } = attrs;
    const [rate, correction1, correction2] = [0, 1, 2].map((i) => slice(inputs.schedule, [i], [1])) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const gradient =
      maxNorm > 0 ? mul(inputs.grad, minimum(1, div(maxNorm, add(inputs.norm, CLIP_EPSILON)))) : inputs.grad;
    const mean = add(mul(inputs.mean, beta1), mul(gradient, 1 - beta1));
    const variance = add(mul(inputs.variance, beta2), mul(square(gradient), 1 - beta2));
    const step = div(div(mean, correction1), add(sqrt(div(variance, correction2)), epsilon));
    const decayed = mul(inputs.value, sub(1, mul(rate, weightDecay)));
    const finite = equal(sub(inputs.norm, inputs.norm), 0); // infinity less infinity is no number, either
    return [
      where(finite, sub(decayed, mul(rate, step)), inputs.value),
      where(finite, mean, inputs.mean),
      where(finite, variance, inputs.variance),
    ];
  },
);

/** A parameter, its gradient and its moments. */
export interface AdamWState {
  value: Tensor;
  grad: Tensor;
  mean: Tensor;
  variance: Tensor;
}

/** As AdamWAttrs, with a decay for each parameter. */
export interface AdamWStepAttrs extends Omit<AdamWAttrs, 'weightDecay'> {
  weightDecays: number[];
}

/**
 * AdamW of any number of parameters: {value.0, grad.0, mean.0, variance.0, value.1, ..., norm, schedule} →
 * [value, mean, variance of each in turn]. A backend may take them in one launch, and write in place of the inputs.
 */
export const adamWStepKernel = defineKernel(
  'AdamWStep',
  (inputs: Record<string, Tensor>, { weightDecays, ...attrs }: AdamWStepAttrs): Tensor[] => {
    const shared = { norm: inputs.norm as Tensor, schedule: inputs.schedule as Tensor };
    return adamWStates(inputs, weightDecays.length).flatMap((state, i) =>
      adamWKernel({ ...state, ...shared }, { ...attrs, weightDecay: weightDecays[i] as number }),
    );
  },
);

const STATE_NAMES = ['value', 'grad', 'mean', 'variance'] as const;

/** The parameters of adamWStepKernel's inputs, in order. */
export function adamWStates(inputs: Record<string, Tensor>, count: number): AdamWState[] {
  return Array.from({ length: count }, (_, i) => {
    const [value, grad, mean, variance] = STATE_NAMES.map((name) => inputs[`${name}.${i}`] as Tensor);
    return { value, grad, mean, variance } as AdamWState;
  });
}

/** One step of all parameters. norm a scalar, schedule as AdamWInputs has it. */
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
