/** AdamW over all parameters of a model: moments, global-norm clipping, decoupled decay on matrices. */
import { addN, keep, sub, type Tensor, tensor1d, tidy, zerosLike } from '@tensorflow/tfjs-core';
import { adamWStep } from '../ops/adamw.js';
import { globalNorm } from '../ops/global-norm.js';
import type { Parameter } from '../ops/tape.js';

export interface AdamWOptions {
  weightDecay: number;
  /** Largest global gradient norm; 0: no clipping. */
  gradientClip: number;
}

export const ADAM_BETA1 = 0.9;
export const ADAM_BETA2 = 0.95;
export const ADAM_EPSILON = 1e-8;

export interface Moments {
  mean: Tensor;
  variance: Tensor;
}

export class AdamW {
  /** Steps taken so far. */
  step = 0;
  readonly moments: Map<Parameter, Moments>;

  constructor(
    private readonly parameters: Parameter[],
    private readonly options: AdamWOptions,
  ) {
    const zero = (parameter: Parameter) => keep(zerosLike(parameter.value));
    this.moments = new Map(parameters.map((p) => [p, { mean: zero(p), variance: zero(p) }]));
  }

  /**
   * One update from the gradients that the parameters hold, which are cleared. Returns the global gradient norm before
   * clipping, a scalar on the device that the caller disposes.
   */
  update(learningRate: number): Tensor {
    const schedule = tensor1d(this.nextSchedule(learningRate), 'float32');
    const norm = this.apply(schedule);
    schedule.dispose();
    return norm;
  }

  /** Counts a step; the numbers of it that change from step to step, as `apply` takes them. */
  nextSchedule(learningRate: number): [rate: number, correction1: number, correction2: number] {
    this.step += 1;
    return [learningRate, 1 - ADAM_BETA1 ** this.step, 1 - ADAM_BETA2 ** this.step];
  }

  /**
   * The update's work on the device, the same for every step: what a captured step contains. Where the gradient norm or
   * one of the losses is not finite, weights and moments stay as they are, and the norm that comes back is no number.
   *
   * @param schedule [3]
   * @param losses scalars, of the micro-batches
   */
  apply(schedule: Tensor, losses: readonly Tensor[] = []): Tensor {
    return tidy(() => {
      const states = this.parameters.map((parameter) => ({
        value: parameter.value,
        grad: gradientOf(parameter),
        ...(this.moments.get(parameter) as Moments),
      }));
      // x - x is 0 for every number, and no number for every other x.
      const zeros = losses.map((loss) => sub<Tensor>(loss, loss));
      const norm = addN([globalNorm(states.map(({ grad }) => grad)), ...zeros]);
      const updated = adamWStep(states, norm, schedule, {
        beta1: ADAM_BETA1,
        beta2: ADAM_BETA2,
        epsilon: ADAM_EPSILON,
        weightDecays: this.parameters.map(({ decays }) => (decays ? this.options.weightDecay : 0)),
        maxNorm: this.options.gradientClip,
      });
      this.parameters.forEach((parameter, i) => {
        const [value, mean, variance] = updated[i] as [Tensor, Tensor, Tensor];
        const moments = this.moments.get(parameter) as Moments;
        for (const dead of [parameter.value, moments.mean, moments.variance]) dead.dispose();
        parameter.value = keep(value);
        moments.mean = keep(mean);
        moments.variance = keep(variance);
        parameter.clearGrad();
      });
      return norm;
    });
  }

  dispose(): void {
    for (const { mean, variance } of this.moments.values()) {
      mean.dispose();
      variance.dispose();
    }
  }
}

function gradientOf(parameter: Parameter): Tensor {
  if (parameter.grad === null) throw new Error(`${parameter.name} has no gradient`);
  return parameter.grad;
}
