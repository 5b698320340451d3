/** Gelu, RMSNorm and rotary positions on TensorFlow, each one pass by one of the project's own operations (native/). */
import type { Tensor } from '@tensorflow/tfjs-core';
import { geluGradKernel, geluKernel } from '../../ops/gelu.js';
import { addRmsNormKernel, RMS_NORM_EPSILON, rmsNormGradKernel, rmsNormKernel } from '../../ops/rms-norm.js';
import { rotaryGradKernel, rotaryKernel } from '../../ops/rotary.js';
import { type Calls, type Handle, optional, tensorflowKernel } from './calls.js';

const gelu = tensorflowKernel(geluKernel, (calls, { x }) => [calls.run('ModGelu', [calls.input(x)])]);

const geluGrad = tensorflowKernel(geluGradKernel, (calls, { dy, x }) => [
  calls.run('ModGeluGrad', [calls.consumed(dy), calls.input(x)]),
]);

const rmsNorm = tensorflowKernel(rmsNormKernel, (calls, { x, gain }) => {
  const inputs = [calls.input(x), calls.input(gain), calls.float32(RMS_NORM_EPSILON)];
  return calls.runAll('ModRmsNorm', inputs, [], 2) as [Handle, Handle];
});

const addRmsNorm = tensorflowKernel(addRmsNormKernel, (calls, { x, branch, gain }) => {
  const inputs = [calls.input(x), calls.input(branch), calls.input(gain), calls.float32(RMS_NORM_EPSILON)];
  return calls.runAll('ModAddRmsNorm', inputs, [], 3) as [Handle, Handle, Handle];
});

const rmsNormGrad = tensorflowKernel(rmsNormGradKernel, (calls, { dy, x, gain, inverseRms, gradAccum }) => {
  const inputs = [dy, x, gain, inverseRms].map((tensor) => calls.input(tensor));
  const { operands, attrs } = optional(gradAccum && calls.consumed(gradAccum));
  return calls.runAll('ModRmsNormGrad', [...inputs, ...operands], attrs, 2) as [Handle, Handle];
});

const rotary = tensorflowKernel(rotaryKernel, (calls, { qkv, ...angles }) => [rotate(calls, qkv, angles, 1)]);

const rotaryGrad = tensorflowKernel(rotaryGradKernel, (calls, { dqkv, ...angles }) => [
  rotate(calls, dqkv, angles, -1),
]);

/** Rotates q and k of packed rows [B, n, 3D] by their positions, in place. */
function rotate(
  calls: Calls,
  packed: Tensor,
  { table, positions }: { table: Tensor; positions: Tensor | undefined },
  direction: 1 | -1,
): Handle {
  const { operands, attrs } = optional(positions && calls.input(positions));
  return calls.run(
    'ModRotary',
    [calls.consumed(packed), calls.input(table), calls.float32(direction), ...operands],
    attrs,
  );
}

export const elementwiseKernels = [gelu, geluGrad, rmsNorm, addRmsNorm, rmsNormGrad, rotary, rotaryGrad];
