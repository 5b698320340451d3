/** Losses and the entropy on wasm: one pass over the logits. */
import { binaryCrossEntropyGradKernel } from '../../ops/binary-cross-entropy.js';
import { crossEntropyGradKernel, crossEntropyKernel } from '../../ops/cross-entropy.js';
import { entropyKernel } from '../../ops/entropy.js';
import { exponential, logistic } from './exponential.js';
import { wasmKernel } from './heap.js';

const crossEntropy = wasmKernel(crossEntropyKernel, (heap, { logits, targets }) => {
  const [losses, logSumExp] = [heap.make(targets.shape), heap.make(targets.shape)];
  const vocabSize = logits.shape[logits.rank - 1] as number;
  const [values, classes] = [heap.floats(logits), heap.ints(targets)];
  const [loss, sums] = [heap.floats(losses), heap.floats(logSumExp)];
  for (let row = 0; row < loss.length; row++) {
    const logSum = logSumExpOf(values.subarray(row * vocabSize, (row + 1) * vocabSize));
    sums[row] = logSum;
    loss[row] = logSum - (values[row * vocabSize + (classes[row] as number)] as number);
  }
  return [losses, logSumExp];
});

const crossEntropyGrad = wasmKernel(
  crossEntropyGradKernel,
  (heap, { logits, targets, logSumExp, dlosses }) => {
    const dlogits = heap.make(logits.shape);
    const vocabSize = logits.shape[logits.rank - 1] as number;
    const [values, classes, sums] = [heap.floats(logits), heap.ints(targets), heap.floats(logSumExp)];
    const [d, to] = [heap.floats(dlosses), heap.floats(dlogits)];
    for (let row = 0; row < d.length; row++) {
      const [first, weight, logSum] = [row * vocabSize, d[row] as number, sums[row] as number];
      for (let i = first; i < first + vocabSize; i++) {
        to[i] = weight * exponential((values[i] as number) - logSum);
      }
      const target = first + (classes[row] as number);
      to[target] = (to[target] as number) - weight;
    }
    return [dlogits];
  },
);

const entropy = wasmKernel(entropyKernel, (heap, { logits }) => {
  const vocabSize = logits.shape[logits.rank - 1] as number;
  const entropy = heap.make(logits.shape.slice(0, -1));
  const [values, to] = [heap.floats(logits), heap.floats(entropy)];
  for (let row = 0; row < to.length; row++) {
    const x = values.subarray(row * vocabSize, (row + 1) * vocabSize);
    const logSum = logSumExpOf(x);
    let sum = 0;
    for (let i = 0; i < vocabSize; i++) {
      const nats = logSum - (x[i] as number); // -log of the probability
      sum += exponential(-nats) * nats;
    }
    to[row] = sum;
  }
  return [entropy];
});

const binaryCrossEntropyGrad = wasmKernel(
  binaryCrossEntropyGradKernel,
  (heap, { logits, labels }, { weight }) => {
    const dlogits = heap.make(logits.shape);
    const [x, y, to] = [heap.floats(logits), heap.floats(labels), heap.floats(dlogits)];
    const scale = weight / to.length;
    for (let i = 0; i < to.length; i++) to[i] = scale * (logistic(x[i] as number) - (y[i] as number));
    return [dlogits];
  },
);

function logSumExpOf(x: Float32Array): number {
  let top = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < x.length; i++) if ((x[i] as number) > top) top = x[i] as number;
  let total = 0;
  for (let i = 0; i < x.length; i++) total += exponential((x[i] as number) - top);
  return top + Math.log(total);
}

export const lossKernels = [crossEntropy, crossEntropyGrad, entropy, binaryCrossEntropyGrad];
