/** Norms, gelu and the token loss on TensorFlow: few operations, each over a part of the rows that stays in the cache. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { crossEntropyGradKernel, crossEntropyKernel } from '../../ops/cross-entropy.js';
import { GELU_CUBIC, GELU_SCALE, geluGradKernel, geluKernel } from '../../ops/gelu.js';
import { addRmsNormKernel, RMS_NORM_EPSILON, rmsNormGradKernel, rmsNormKernel } from '../../ops/rms-norm.js';
import { type Calls, type Handle, int, registerTensorflowKernel } from './calls.js';

export function registerElementwise(): void {
  registerTensorflowKernel(geluKernel, (calls, { x }) => {
    const [y] = calls.byParts([rowsOf(calls, x)], ([part]) => {
      const value = part as Handle;
      return [calls.mul(value, calls.run('Sigmoid', [gateArgument(calls, value)]))];
    }) as [Handle];
    return [calls.reshape(y, x.shape)];
  });

  registerTensorflowKernel(geluGradKernel, (calls, { dy, x }) => {
    const [dx] = calls.byParts([rowsOf(calls, dy), rowsOf(calls, x)], ([d, value]) => [
      calls.mul(d as Handle, geluSlope(calls, value as Handle)),
    ]) as [Handle];
    return [calls.reshape(dx, x.shape)];
  });

  registerTensorflowKernel(rmsNormKernel, (calls, { x, gain }) => {
    const g = calls.input(gain);
    const [y, inverseRms] = calls.byParts([rowsOf(calls, x)], ([part]) =>
      normalise(calls, part as Handle, g),
    ) as [Handle, Handle];
    return [calls.reshape(y, x.shape), calls.reshape(inverseRms, x.shape.slice(0, -1))];
  });

  registerTensorflowKernel(addRmsNormKernel, (calls, { x, branch, gain }) => {
    const g = calls.input(gain);
    const [sum, y, inverseRms] = calls.byParts([rowsOf(calls, x), rowsOf(calls, branch)], ([a, b]) => {
      const total = calls.add(a as Handle, b as Handle);
      return [total, ...normalise(calls, total, g)];
    }) as [Handle, Handle, Handle];
    return [
      calls.reshape(sum, x.shape),
      calls.reshape(y, x.shape),
      calls.reshape(inverseRms, x.shape.slice(0, -1)),
    ];
  });

  registerTensorflowKernel(rmsNormGradKernel, (calls, { dy, x, gain, inverseRms, sofar }) => {
    const g = calls.input(gain);
    const scale = calls.reshape(calls.input(inverseRms), [inverseRms.size, 1]);
    const rows = [rowsOf(calls, dy), rowsOf(calls, x), scale];
    if (sofar !== undefined) rows.push(rowsOf(calls, sofar));
    const [dx, dgains] = calls.byParts(rows, ([d, value, s, before]) =>
      normGradient(calls, d as Handle, value as Handle, s as Handle, g, before),
    ) as [Handle, Handle];
    return [calls.reshape(dx, x.shape), calls.reduce('Sum', dgains, 0)];
  });

  registerTensorflowKernel(crossEntropyKernel, (calls, { logits, targets }) => {
    const rows = [rowsOf(calls, logits), calls.reshape(calls.input(targets), [targets.size])];
    const [losses, logSumExp] = calls.byParts(rows, ([part, target]) => {
      const [loss] = sparseCrossEntropy(calls, part as Handle, target as Handle);
      const column = calls.run('ExpandDims', [target as Handle, calls.whole(1)]);
      const own = calls.run('GatherV2', [part as Handle, column, calls.whole(1)], [int('batch_dims', 1)]);
      return [loss, calls.add(loss, calls.reshape(own, loss.shape))];
    }) as [Handle, Handle];
    return [calls.reshape(losses, targets.shape), calls.reshape(logSumExp, targets.shape)];
  });

  registerTensorflowKernel(crossEntropyGradKernel, (calls, { logits, targets, dlosses }) => {
    const flat = [targets, dlosses].map((tensor) => calls.reshape(calls.input(tensor), [targets.size]));
    const [dlogits] = calls.byParts([rowsOf(calls, logits), ...flat], ([part, target, d]) => {
      const [, gradient] = sparseCrossEntropy(calls, part as Handle, target as Handle);
      return [calls.mul(gradient, calls.run('ExpandDims', [d as Handle, calls.whole(1)]))];
    }) as [Handle];
    return [calls.reshape(dlogits, logits.shape)];
  });
}

/** As a matrix: the last axis is a row. */
function rowsOf(calls: Calls, x: Tensor): Handle {
  const width = x.shape[x.rank - 1] as number;
  return calls.reshape(calls.input(x), [x.size / width, width]);
}

/** 2u of gelu: s·x + s·c·x³. */
function gateArgument(calls: Calls, x: Handle): Handle {
  const cubic = calls.scale(calls.run('Square', [x]), GELU_SCALE * GELU_CUBIC);
  return calls.mul(x, calls.add(cubic, calls.scalar(GELU_SCALE)));
}

/** gelu'(x) = sigmoid(a) + sigmoid'(a)·(a + 2r), with r = s·c·x³ and a = s·x + r the argument of the sigmoid. */
function geluSlope(calls: Calls, x: Handle): Handle {
  // ReciprocalGrad(y, dy) = -y²·dy in one pass.
  const r = calls.run('ReciprocalGrad', [x, calls.scale(x, -GELU_SCALE * GELU_CUBIC)]);
  const a = calls.add(calls.scale(x, GELU_SCALE), r);
  const gate = calls.run('Sigmoid', [a]);
  return calls.add(gate, calls.run('SigmoidGrad', [gate, calls.addAll([a, r, r])]));
}

/** [y, inverse RMS as a column] */
function normalise(calls: Calls, x: Handle, gain: Handle): [Handle, Handle] {
  const meanSquare = calls.reduce('Mean', calls.run('Square', [x]), 1, true);
  const scale = calls.run('Reciprocal', [
    calls.run('Sqrt', [calls.add(meanSquare, calls.scalar(RMS_NORM_EPSILON))]),
  ]);
  return [calls.mul(calls.mul(x, scale), gain), scale];
}

/** [dx, the gain's gradient from these rows as one row]; the formula stands at RmsNormGrad. */
function normGradient(
  calls: Calls,
  dy: Handle,
  x: Handle,
  scale: Handle,
  gain: Handle,
  sofar: Handle | undefined,
): [Handle, Handle] {
  const normalised = calls.mul(x, scale);
  const product = calls.mul(dy, normalised);
  const projection = calls.reduce('Mean', calls.mul(product, gain), 1, true);
  const direct = calls.sub(calls.mul(dy, gain), calls.mul(normalised, projection));
  const dx = calls.mul(direct, scale);
  return [sofar === undefined ? dx : calls.add(sofar, dx), calls.reduce('Sum', product, 0, true)];
}

/** [losses, softmax - one-hot] */
function sparseCrossEntropy(calls: Calls, logits: Handle, targets: Handle): [Handle, Handle] {
  const inputs = [logits, targets];
  return calls.runAll('SparseSoftmaxCrossEntropyWithLogits', inputs, [], 2) as [Handle, Handle];
}
