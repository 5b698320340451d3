/**
 * The running quantile of a routed block's router weights (θ of `routing: quantile`): a causal threshold that top-k training
 * yields without a parameter. RoutedThreshold takes τ of each sequence, RunningQuantile averages over sequences and steps.
 * No gradient.
 */
import {
  add,
  concat,
  equal,
  fill,
  max,
  mean,
  min,
  mul,
  pad,
  reshape,
  slice,
  sub,
  type Tensor,
  where,
} from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';

export interface RoutedThresholdAttrs {
  /** Row of the block among the routed blocks. */
  block: number;
  /** Column of the first sequence: its index in the batch. */
  first: number;
}

/**
 * {r [b, T], mask [b, T], thresholds [R, B]} → [thresholds], in which row `block` has τ of these sequences in the columns
 * first .. first + b - 1: τ = (r_(k) + r_(k+1)) / 2, the k-th and k+1-th largest router weights of the sequence, where mask is
 * 1 for the k largest and 0 for the others. -infinity if all are selected. `thresholds` is consumed: a backend may write into it.
 */
export const routedThresholdKernel = defineKernel(
  'RoutedThreshold',
  (
    { r, mask, thresholds }: { r: Tensor; mask: Tensor; thresholds: Tensor },
    { block, first }: RoutedThresholdAttrs,
  ): [thresholds: Tensor] => {
    const [blocks, sequences] = thresholds.shape as [number, number];
    const b = r.shape[0] as number;
    const infinite = fill(r.shape, Number.POSITIVE_INFINITY);
    const selected = equal(mask, 1);
    const least = min(where(selected, r, infinite), 1);
    const most = max(where(selected, mul(infinite, -1), r), 1);
    const tau = reshape(mul(add(least, most), 0.5), [1, b]);
    const place = (row: Tensor): Tensor =>
      pad(row, [
        [block, blocks - block - 1],
        [first, sequences - first - b],
      ]);
    return [where(equal(place(fill([1, b], 1)), 1), place(tau), thresholds)];
  },
);

export interface RunningQuantileInputs extends Record<string, Tensor> {
  /** τ of every routed block and sequence [R, B]. */
  thresholds: Tensor;
  /** The global gradient norm, a scalar. If it is not finite, the state keeps its values, as the optimizer's does. */
  norm: Tensor;
  /** [R + 1]: the sums of the routed blocks, then the number of steps. */
  state: Tensor;
}

/**
 * → [state] with sum ← decay·sum + (1 - decay)·mean over sequences of τ, and one step more. Divided by 1 - decay^steps, a sum
 * is the running mean of τ. The state is consumed: a backend may overwrite it.
 */
export const runningQuantileKernel = defineKernel(
  'RunningQuantile',
  ({ thresholds, norm, state }: RunningQuantileInputs, { decay }: { decay: number }): [state: Tensor] => {
    const blocks = thresholds.shape[0] as number;
    const sums = add(mul(slice(state, [0], [blocks]), decay), mul(mean(thresholds, 1), 1 - decay));
    const steps = add(slice(state, [blocks], [1]), 1);
    const finite = equal(sub(norm, norm), 0); // infinity - infinity is NaN as well
    return [where(finite, concat([sums, steps]), state)];
  },
);
