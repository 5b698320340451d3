/** Norms, gelu and losses on wasm, each in one pass over its rows; the composed definitions take a pass for each operation. */
import { sigmoid, type Tensor } from '@tensorflow/tfjs-core';
import { binaryCrossEntropyGradKernel } from '../../ops/binary-cross-entropy.js';
import { crossEntropyGradKernel, crossEntropyKernel } from '../../ops/cross-entropy.js';
import { entropyKernel } from '../../ops/entropy.js';
import { GELU_CUBIC, GELU_SCALE, geluGradKernel, geluKernel } from '../../ops/gelu.js';
import { addRmsNormKernel, RMS_NORM_EPSILON, rmsNormGradKernel, rmsNormKernel } from '../../ops/rms-norm.js';
import { exponential, logistic } from './exponential.js';
import { type Heap, wasmKernel } from './heap.js';

const rmsNorm = wasmKernel(rmsNormKernel, (heap, { x, gain }) => {
  const y = heap.make(x.shape);
  const inverseRms = heap.make(x.shape.slice(0, -1));
  normalise(heap.floats(x), heap.floats(gain), heap.floats(y), heap.floats(inverseRms));
  return [y, inverseRms];
});

const addRmsNorm = wasmKernel(addRmsNormKernel, (heap, { x, branch, gain }) => {
  const [sum, y] = [heap.make(x.shape), heap.make(x.shape)];
  const inverseRms = heap.make(x.shape.slice(0, -1));
  const [a, b, total] = [heap.floats(x), heap.floats(branch), heap.floats(sum)];
  for (let i = 0; i < total.length; i++) total[i] = (a[i] as number) + (b[i] as number);
  normalise(total, heap.floats(gain), heap.floats(y), heap.floats(inverseRms));
  return [sum, y, inverseRms];
});

const rmsNormGrad = wasmKernel(rmsNormGradKernel, (heap, { dy, x, gain, inverseRms, gradAccum }) => {
  const dx = gradAccum === undefined ? heap.make(x.shape) : heap.reuse(gradAccum);
  const dgain = heap.make(gain.shape);
  if (gradAccum === undefined) heap.floats(dx).fill(0);
  const sums = addNormGradient(
    heap.floats(dy),
    heap.floats(x),
    heap.floats(gain),
    heap.floats(inverseRms),
    heap.floats(dx),
  );
  heap.floats(dgain).set(sums);
  return [dx, dgain];
});

// tfjs' own sigmoid is vectorized; a scalar loop is not.
const gelu = wasmKernel(geluKernel, (heap, { x }) => {
  const gate = gateOf(heap, x);
  const [from, to] = [heap.floats(x), heap.floats(gate)];
  for (let i = 0; i < to.length; i++) to[i] = (to[i] as number) * (from[i] as number);
  return [gate];
});

const geluGrad = wasmKernel(geluGradKernel, (heap, { dy, x }) => {
  const gate = gateOf(heap, x);
  const [from, to, d] = [heap.floats(x), heap.floats(gate), heap.floats(dy)];
  for (let i = 0; i < to.length; i++) {
    const [value, s] = [from[i] as number, to[i] as number];
    const slope = GELU_SCALE * (1 + 3 * GELU_CUBIC * value * value);
    to[i] = (d[i] as number) * s * (1 + value * slope * (1 - s));
  }
  return [gate];
});

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

function normalise(x: Float32Array, gain: Float32Array, y: Float32Array, inverseRms: Float32Array): void {
  const width = gain.length;
  for (let row = 0; row < inverseRms.length; row++) {
    const first = row * width;
    let squares = 0;
    for (let i = first; i < first + width; i++) squares += (x[i] as number) * (x[i] as number);
    const scale = 1 / Math.sqrt(squares / width + RMS_NORM_EPSILON);
    inverseRms[row] = scale;
    for (let d = 0; d < width; d++) y[first + d] = (x[first + d] as number) * scale * (gain[d] as number);
  }
}

/** Adds to dx and returns the gradient of the gain; formulas at RmsNormGrad. */
function addNormGradient(
  dy: Float32Array,
  x: Float32Array,
  gain: Float32Array,
  inverseRms: Float32Array,
  dx: Float32Array,
): Float64Array {
  const width = gain.length;
  const dgain = new Float64Array(width);
  for (let row = 0; row < inverseRms.length; row++) {
    const first = row * width;
    const scale = inverseRms[row] as number;
    let projection = 0;
    for (let d = 0; d < width; d++) {
      const product = (dy[first + d] as number) * (x[first + d] as number);
      projection += product * (gain[d] as number);
      dgain[d] = (dgain[d] as number) + product * scale;
    }
    const along = (projection * scale * scale) / width;
    for (let d = 0; d < width; d++) {
      const i = first + d;
      const direct = (gain[d] as number) * (dy[i] as number) - (x[i] as number) * along;
      dx[i] = (dx[i] as number) + scale * direct;
    }
  }
  return dgain;
}

/** sigmoid(2u) of gelu, as a new tensor. */
function gateOf(heap: Heap, x: Tensor): Tensor {
  const argument = heap.make(x.shape);
  const [from, to] = [heap.floats(x), heap.floats(argument)];
  for (let i = 0; i < to.length; i++) {
    const value = from[i] as number;
    to[i] = GELU_SCALE * value * (1 + GELU_CUBIC * value * value);
  }
  const gate = sigmoid(argument);
  argument.dispose();
  return gate;
}

function logSumExpOf(x: Float32Array): number {
  let top = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < x.length; i++) if ((x[i] as number) > top) top = x[i] as number;
  let total = 0;
  for (let i = 0; i < x.length; i++) total += exponential((x[i] as number) - top);
  return top + Math.log(total);
}

export const elementwiseKernels = [
  rmsNorm,
  addRmsNorm,
  rmsNormGrad,
  gelu,
  geluGrad,
  crossEntropy,
  crossEntropyGrad,
  entropy,
  binaryCrossEntropyGrad,
];
