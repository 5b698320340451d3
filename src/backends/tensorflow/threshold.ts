/** The running quantile of router weights on TensorFlow, in fewer operations than its composed definition. */
import { routedThresholdKernel, runningQuantileKernel } from '../../ops/running-quantile.js';
import { bool, type Calls, type Handle, tensorflowKernel } from './calls.js';

const routedThreshold = tensorflowKernel(
  routedThresholdKernel,
  (calls, { r, mask, thresholds }, { block, first }) => {
    const selected = calls.run('Greater', [calls.input(mask), calls.float32(0)]);
    const weights = calls.input(r);
    const infinite = (value: number) => calls.float32(value);
    const ofSelected = calls.run('SelectV2', [selected, weights, infinite(Number.POSITIVE_INFINITY)]);
    const ofOthers = calls.run('SelectV2', [selected, infinite(Number.NEGATIVE_INFINITY), weights]);
    const least = calls.run('Min', [ofSelected, calls.vector([1])], [bool('keep_dims', false)]);
    const tau = calls.scale(calls.add(least, calls.reduce('Max', ofOthers, 1)), 0.5); // [b]
    const count = r.shape[0] as number;
    const places = Array.from({ length: count }, (_, b) => [block, first + b]).flat();
    const at = calls.reshape(calls.vector(places), [count, 2]);
    return [calls.run('TensorScatterUpdate', [calls.input(thresholds), at, tau])];
  },
);

const runningQuantile = tensorflowKernel(
  runningQuantileKernel,
  (calls, { thresholds, norm, state }, { decay }) => {
    const blocks = thresholds.shape[0] as number;
    const taus = calls.scale(calls.reduce('Mean', calls.input(thresholds), 1), 1 - decay); // [R]
    const decays = calls.run('Fill', [calls.vector([blocks]), calls.float32(decay)]);
    const before = calls.input(state);
    const next = calls.add(calls.mul(before, withOne(calls, decays)), withOne(calls, taus));
    const finite = calls.run('IsFinite', [calls.input(norm)]);
    return [calls.run('SelectV2', [finite, next, before])];
  },
);

/** [R] → [R + 1], with a 1 at the end: the number of steps grows by one and does not decay. */
function withOne(calls: Calls, values: Handle): Handle {
  return calls.concat([values, calls.reshape(calls.float32(1), [1])], 0);
}

export const thresholdKernels = [routedThreshold, runningQuantile];
