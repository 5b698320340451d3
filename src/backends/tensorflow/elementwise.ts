/** Norms, gelu and the token loss on TensorFlow: as few passes over memory as its operations allow. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { crossEntropyGradKernel, crossEntropyKernel } from '../../ops/cross-entropy.js';
import { GELU_CUBIC, GELU_SCALE, geluGradKernel, geluKernel } from '../../ops/gelu.js';
import { addRmsNormKernel, RMS_NORM_EPSILON, rmsNormGradKernel, rmsNormKernel } from '../../ops/rms-norm.js';
import { bool, type Calls, type Handle, int, last, registerTensorflowKernel } from './calls.js';

export function registerElementwise(): void {
  registerTensorflowKernel(geluKernel, (calls, { x }) => {
    const value = calls.input(x);
    const cubic = calls.scale(last(calls.run('Square', [value])), GELU_SCALE * GELU_CUBIC);
    const argument = calls.mul(value, last(calls.add(last(cubic), calls.scalar(GELU_SCALE))));
    // SoftplusGrad(dy, x) = dy·sigmoid(x) in one pass.
    return [calls.run('SoftplusGrad', [value, last(argument)])];
  });

  registerTensorflowKernel(geluGradKernel, (calls, { dy, x }) => {
    // With r = s·c·x³ and a = s·x + r the gate's argument: gelu' = sigmoid(a) + sigmoid'(a)·(a + 2r).
    const value = calls.input(x);
    // ReciprocalGrad(y, dy) = -y²·dy in one pass.
    const r = calls.run('ReciprocalGrad', [value, last(calls.scale(value, -GELU_SCALE * GELU_CUBIC))]);
    const a = calls.add(last(calls.scale(value, GELU_SCALE)), r);
    const gate = calls.run('Sigmoid', [a]);
    const steepness = calls.addAll([last(a), r, last(r)]);
    const change = calls.run('SigmoidGrad', [gate, last(steepness)]);
    return [calls.mul(calls.input(dy), last(calls.add(last(gate), last(change))))];
  });

  registerTensorflowKernel(rmsNormKernel, (calls, { x, gain }) => {
    const [y, inverseRms] = normalise(calls, calls.input(x), calls.input(gain));
    return [y, calls.reshape(inverseRms, x.shape.slice(0, -1))];
  });

  registerTensorflowKernel(addRmsNormKernel, (calls, { x, branch, gain }) => {
    const sum = calls.add(calls.input(x), calls.input(branch));
    const [y, inverseRms] = normalise(calls, sum, calls.input(gain));
    return [sum, y, calls.reshape(inverseRms, x.shape.slice(0, -1))];
  });

  // The formula stands at RmsNormGrad. With p the row sums of g·dy·x: dx = sofar + s·g·dy - x·s³·p/D.
  registerTensorflowKernel(rmsNormGradKernel, (calls, { dy, x, gain, inverseRms, sofar }) => {
    const [rows, width] = [inverseRms.size, gain.size];
    const [d, value, g] = [rowsOf(calls, dy), rowsOf(calls, x), calls.input(gain)];
    const s = calls.reshape(calls.input(inverseRms), [rows, 1]);
    const products = calls.mul(d, value);
    const p = calls.run('MatMul', [products, calls.reshape(g, [width, 1])]);
    const along = calls.scale(calls.mul(p, calls.mul(s, calls.run('Square', [s]))), -1 / width);
    const dgain = calls.run('MatMul', [s, last(products)], [bool('transpose_a', true)]);
    const terms = [last(calls.mul(last(calls.mul(d, g)), s)), last(calls.mul(value, along))];
    const dx = calls.addAll(sofar === undefined ? terms : [rowsOf(calls, sofar), ...terms]);
    return [calls.reshape(dx, x.shape), calls.reshape(dgain, [width])];
  });

  registerTensorflowKernel(crossEntropyKernel, (calls, { logits, targets }) => {
    const [rows, ids] = [rowsOf(calls, logits), calls.reshape(calls.input(targets), [targets.size])];
    const [losses] = sparseCrossEntropy(calls, rows, ids);
    const column = calls.reshape(ids, [targets.size, 1]);
    const own = calls.run('GatherV2', [rows, column, calls.whole(1)], [int('batch_dims', 1)]);
    const logSumExp = calls.add(losses, calls.reshape(own, [targets.size]));
    return [calls.reshape(losses, targets.shape), calls.reshape(logSumExp, targets.shape)];
  });

  registerTensorflowKernel(crossEntropyGradKernel, (calls, { logits, targets, dlosses }) => {
    const ids = calls.reshape(calls.input(targets), [targets.size]);
    const [, gradient] = sparseCrossEntropy(calls, rowsOf(calls, logits), ids);
    const dlogits = calls.mul(gradient, calls.reshape(calls.input(dlosses), [targets.size, 1]));
    return [calls.reshape(dlogits, logits.shape)];
  });
}

/** As a matrix: the last axis is a row. */
function rowsOf(calls: Calls, x: Tensor): Handle {
  const width = x.shape[x.rank - 1] as number;
  return calls.reshape(calls.input(x), [x.size / width, width]);
}

/** [y, inverse RMS, its last axis 1] */
function normalise(calls: Calls, x: Handle, gain: Handle): [Handle, Handle] {
  const meanSquare = calls.reduce('Mean', last(calls.run('Square', [x])), x.shape.length - 1, true);
  const rms = calls.run('Sqrt', [calls.add(meanSquare, calls.scalar(RMS_NORM_EPSILON))]);
  // Rsqrt is one bit less exact, and no faster on a number a row.
  const scale = calls.run('Reciprocal', [rms]);
  return [calls.mul(last(calls.mul(x, scale)), gain), scale];
}

/** [losses, softmax - one-hot] of rows of logits. */
function sparseCrossEntropy(calls: Calls, logits: Handle, targets: Handle): [Handle, Handle] {
  const inputs = [logits, targets];
  return calls.runAll('SparseSoftmaxCrossEntropyWithLogits', inputs, [], 2) as [Handle, Handle];
}
