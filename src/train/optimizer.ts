/** What a training step and a checkpoint require of an optimizer; optimizers.ts lists those there are. */
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Parameter } from '../ops/tape.js';

export interface OptimizerOptions {
  weightDecay: number;
  /** Largest global gradient norm; 0: no clipping. */
  gradientClip: number;
}

export interface Optimizer {
  /** Steps taken so far. */
  step: number;
  /** Length of a schedule. */
  readonly scheduleLength: number;
  /** Each parameter's tensors of its own shape, by their names in a checkpoint, which are those of `torch.optim`. */
  readonly state: ReadonlyMap<Parameter, Record<string, Tensor>>;
  /** Counts a step and returns its schedule: the numbers that differ from one step to the next. */
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
