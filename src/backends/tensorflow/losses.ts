/** The cross-entropy on TensorFlow, by its SparseSoftmaxCrossEntropyWithLogits, which stores no probabilities. */
import { crossEntropyGradKernel, crossEntropyKernel } from '../../ops/cross-entropy.js';
import { type Calls, type Handle, int, tensorflowKernel } from './calls.js';

const crossEntropy = tensorflowKernel(crossEntropyKernel, (calls, { logits, targets }) => {
  const [rows, ids] = [calls.matrix(logits), calls.reshape(calls.input(targets), [targets.size])];
  const [losses] = sparseCrossEntropy(calls, rows, ids);
  const column = calls.reshape(ids, [targets.size, 1]);
  const own = calls.run('GatherV2', [rows, column, calls.int32(1)], [int('batch_dims', 1)]);
  const logSumExp = calls.add(losses, calls.reshape(own, [targets.size]));
  return [calls.reshape(losses, targets.shape), calls.reshape(logSumExp, targets.shape)];
});

const crossEntropyGrad = tensorflowKernel(crossEntropyGradKernel, (calls, { logits, targets, dlosses }) => {
  const ids = calls.reshape(calls.input(targets), [targets.size]);
  const [, gradient] = sparseCrossEntropy(calls, calls.matrix(logits), ids);
  const dlogits = calls.mul(gradient, calls.reshape(calls.input(dlosses), [targets.size, 1]));
  return [calls.reshape(dlogits, logits.shape)];
});

/** [losses, softmax - one-hot] of rows of logits. */
function sparseCrossEntropy(calls: Calls, logits: Handle, targets: Handle): [Handle, Handle] {
  const inputs = [logits, targets];
  return calls.runAll('SparseSoftmaxCrossEntropyWithLogits', inputs, [], 2) as [Handle, Handle];
}

export const lossKernels = [crossEntropy, crossEntropyGrad];
