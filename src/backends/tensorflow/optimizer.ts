/** AdamW and the global norm on TensorFlow, by its fused ResourceApplyAdam, which updates in place. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { adamWKernel, CLIP_EPSILON } from '../../ops/adamw.js';
import { globalNormKernel } from '../../ops/global-norm.js';
import { type Calls, DTYPE, dtype, type Handle, shapeOf, tensorflowKernel, text } from './calls.js';

/** The shared name that makes a variable anonymous: it is deleted with its handle. */
const ANONYMOUS = 'cd2c89b7-88b7-44c8-ad83-06c2a9158347';

const globalNorm = tensorflowKernel(globalNormKernel, (calls, gradients) => {
  // L2Loss is half the sum of squares, in one pass.
  const halves = Object.values(gradients).map((gradient) => calls.run('L2Loss', [calls.input(gradient)]));
  return [calls.run('Sqrt', [calls.scale(calls.addAll(halves), 2)])];
});

const adamW = tensorflowKernel(adamWKernel, (calls, inputs, attrs) => {
  const { beta1, beta2, epsilon, weightDecay, rateFactor, maxNorm } = attrs;
  const [scheduled, correction1, correction2] = [0, 1, 2].map((i) =>
    calls.reshape(calls.slice(calls.input(inputs.schedule), 0, i, 1), []),
  ) as [Handle, Handle, Handle];
  // If the norm is not finite, the rate is 0, both betas are 1 and the gradient is 0, so that nothing changes.
  const finite = calls.run('IsFinite', [calls.input(inputs.norm)]);
  const ifFinite = (value: Handle, otherwise: number) =>
    calls.run('SelectV2', [finite, value, calls.float32(otherwise)], [dtype('T', DTYPE.float32)]);
  const own = rateFactor === 1 ? scheduled : calls.scale(scheduled, rateFactor);
  const rate = ifFinite(own, 0);
  const clip = ifFinite(clipFactor(calls, inputs.norm, maxNorm), 0);
  const gradient = calls.run('MulNoNan', [calls.input(inputs.grad), clip]);
  const kept = calls.sub(calls.float32(1), calls.scale(rate, weightDecay));
  const decayed =
    weightDecay === 0 ? takeOver(calls, inputs.value) : calls.mul(calls.input(inputs.value), kept);
  const variables = {
    value: variable(calls, decayed, inputs.value.shape),
    mean: variable(calls, takeOver(calls, inputs.mean), inputs.mean.shape),
    variance: variable(calls, takeOver(calls, inputs.variance), inputs.variance.shape),
  };
  // TensorFlow computes rate·sqrt(1 - power2)/(1 - power1) · mean/(sqrt(variance) + epsilon), the reordered form in
  // section 2 of Kingma and Ba (2015). With epsilon·sqrt(1 - power2) in place of epsilon it equals the standard form.
  const one = calls.float32(1);
  const powers = [calls.sub(one, correction1), calls.sub(one, correction2)];
  const scaledEpsilon = calls.scale(calls.run('Sqrt', [correction2]), epsilon);
  const betas = [ifFinite(calls.float32(beta1), 1), ifFinite(calls.float32(beta2), 1)];
  const rates = [rate, ...betas, scaledEpsilon, gradient];
  const { value, mean, variance } = variables;
  calls.runAll('ResourceApplyAdam', [value, mean, variance, ...powers, ...rates], [], 0);
  return [read(calls, value), read(calls, mean), read(calls, variance)];
});

/** The factor of the gradients: min(1, maxNorm / (norm + CLIP_EPSILON)), or 1 without clipping. */
function clipFactor(calls: Calls, norm: Tensor, maxNorm: number): Handle {
  if (maxNorm === 0) return calls.float32(1);
  const ratio = calls.run('Div', [
    calls.float32(maxNorm),
    calls.add(calls.input(norm), calls.float32(CLIP_EPSILON)),
  ]);
  return calls.run('Minimum', [calls.float32(1), ratio]);
}

/** Takes ownership of the memory of a consumed tfjs tensor, for an update in place; copies it if it is shared. */
function takeOver(calls: Calls, tensor: Tensor): Handle {
  const { backend } = calls;
  const handle = calls.input(tensor);
  if (backend.refCount(tensor.dataId) !== 1) return calls.run('DeepCopy', [handle]);
  backend.tensorMap.get(tensor.dataId).id = -1;
  return calls.own(handle);
}

/** A variable with the value and memory of `start`. */
function variable(calls: Calls, start: Handle, shape: number[]): Handle {
  const attrs = [text('container', ''), text('shared_name', ANONYMOUS), dtype('dtype', DTYPE.float32)];
  const handle = calls.run('VarHandleOp', [], [...attrs, shapeOf('shape', shape)]);
  calls.runAll('AssignVariableOp', [handle, start], [], 0);
  // With no other handle on this memory, the update works in place instead of copying it first.
  calls.drop(start);
  return handle;
}

function read(calls: Calls, handle: Handle): Handle {
  return calls.run('ReadVariableOp', [handle], [dtype('dtype', DTYPE.float32)]);
}

export const optimizerKernels = [globalNorm, adamW];
