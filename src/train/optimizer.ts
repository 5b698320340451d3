/** The interface of an optimizer, as training steps and checkpoints use it; optimizers.ts lists the implementations. */
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Parameter } from '../ops/tape.js';

/** Factors of the learning rate and the weight decay for one parameter. */
export interface UpdateFactors {
  rate: number;
  decay: number;
}

export interface OptimizerOptions {
  weightDecay: number;
  /** Largest global gradient norm; 0: no clipping. */
  gradientClip: number;
  /** Absent: rate 1 for all, decay 1 for matrices and 0 for vectors. */
  factors?: (parameter: Parameter) => UpdateFactors;
  /** Decay rate of the second moment; absent: the optimizer's default. */
  beta2?: number;
  /** Added to the root of the second moment; absent: the optimizer's default. */
  epsilon?: number;
}

export interface Optimizer {
  /** Steps taken so far. */
  step: number;
  /** Number of values in a step's schedule. */
  readonly scheduleLength: number;
  /** The state tensors of each parameter, of its shape, by their names in a checkpoint: those of `torch.optim`. */
  readonly state: ReadonlyMap<Parameter, Record<string, Tensor>>;
  /** Counts a step and returns its schedule: the values of the update that change from step to step. */
  nextSchedule(learningRate: number): number[];
  /**
   * The update on the device, the same work in every step: a recorded step contains it. Clears the gradients. If the
   * gradient norm or a loss is not finite, weights and state keep their values and the returned norm is NaN.
   *
   * @param schedule [scheduleLength]
   * @param losses scalars, one per micro-batch
   * @returns the global gradient norm before clipping, a scalar that the caller disposes
   */
  apply(schedule: Tensor, losses: readonly Tensor[]): Tensor;
  dispose(): void;
}
