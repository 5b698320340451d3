/** Routed blocks on TensorFlow: router weights, top-k selection, gather and gated scatter, in a fixed order of summation. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { gatedScatterAddGradKernel, gatedScatterAddKernel } from '../../ops/gated-scatter-add.js';
import { gatherTokensKernel, scatterTokensKernel } from '../../ops/gather-tokens.js';
import { routerLogitsKernel } from '../../ops/router-logits.js';
import { selectTopKKernel } from '../../ops/select-top-k.js';
import { bool, type Calls, type Handle, tensorflowKernel } from './calls.js';
import { GATE_OPERATIONS } from './gates.js';

const routerLogits = tensorflowKernel(routerLogitsKernel, (calls, { x, weight }) => {
  const w = calls.reshape(calls.input(weight), [weight.size]);
  return [calls.reduce('Sum', calls.mul(calls.input(x), w), 2)];
});

const selectTopK = tensorflowKernel(selectTopKKernel, (calls, { r }, { k }) => {
  const [batch, length] = r.shape as [number, number];
  const topK = (x: Handle) => calls.runAll('TopKV2', [x, calls.int32(k)], [bool('sorted', true)], 2);
  const [, best] = topK(calls.input(r)) as [Handle, Handle];
  // The negated indices in descending order are the indices in ascending order.
  const [descending] = topK(calls.run('Neg', [best])) as [Handle, Handle];
  const indices = calls.run('Neg', [descending]);
  const ones = calls.run('Fill', [calls.vector([batch * k]), calls.float32(1)]);
  const mask = scatterRows(calls, flatPositions(calls, indices, length), ones, [batch * length]);
  return [indices, calls.reshape(mask, [batch, length])];
});

const gatherTokens = tensorflowKernel(gatherTokensKernel, (calls, { x, indices }) => [
  gatherSelected(calls, x, calls.input(indices)),
]);

const scatterTokens = tensorflowKernel(
  scatterTokensKernel,
  (calls, { rows, indices, gradAccum }, { length }) => {
    const [batch, k, width] = rows.shape as [number, number, number];
    const flat = calls.reshape(calls.input(rows), [batch * k, width]);
    return [addSelected(calls, gradAccum, flat, calls.input(indices), [batch, length, width])];
  },
);

const gatedScatterAdd = tensorflowKernel(
  gatedScatterAddKernel,
  (calls, { x, rows, r, indices }, { gate }) => {
    const [batch, k, width] = rows.shape as [number, number, number];
    const at = calls.input(indices);
    const value = GATE_OPERATIONS[gate].value(calls, gatherSelected(calls, r, at));
    const gated = calls.mul(calls.reshape(value, [batch, k, 1]), calls.input(rows));
    return [addSelected(calls, x, calls.reshape(gated, [batch * k, width]), at, x.shape)];
  },
);

const gatedScatterAddGrad = tensorflowKernel(
  gatedScatterAddGradKernel,
  (calls, { dout, rows, r, indices }, { gate }) => {
    const [batch, k] = indices.shape as [number, number];
    const at = calls.input(indices);
    const weights = gatherSelected(calls, r, at);
    const selected = gatherSelected(calls, dout, at); // [B, k, D]
    const dots = calls.reduce('Sum', calls.mul(selected, calls.input(rows)), 2);
    const value = GATE_OPERATIONS[gate].value(calls, weights);
    const dweights = GATE_OPERATIONS[gate].gradient(calls, weights, dots);
    const drows = calls.mul(calls.reshape(value, [batch, k, 1]), selected);
    return [drows, addSelected(calls, undefined, calls.reshape(dweights, [batch * k]), at, r.shape)];
  },
);

/** The row among B·T of each slot: [B·k]. Padding, an index of T, becomes B·T, one past the last row. */
function flatPositions(calls: Calls, indices: Handle, length: number): Handle {
  return calls.scope(() => {
    const [batch, k] = indices.shape as [number, number];
    const starts = calls.run('Range', [calls.int32(0), calls.int32(batch * length), calls.int32(length)]);
    const flat = calls.add(indices, calls.reshape(starts, [batch, 1]));
    const padding = calls.run('Fill', [calls.vector([batch, k]), calls.int32(batch * length)]);
    const marked = calls.run('SelectV2', [isPadding(calls, indices, length), padding, flat]);
    return calls.reshape(marked, [batch * k]);
  });
}

const isPadding = (calls: Calls, indices: Handle, length: number): Handle =>
  calls.run('GreaterEqual', [indices, calls.int32(length)]);

/** Rows of x [B, T, ..] at the indices [B, k], zeros for padding: [B, k, ..] */
function gatherSelected(calls: Calls, x: Tensor, indices: Handle): Handle {
  return calls.scope(() => {
    const [batch, length, ...row] = x.shape as [number, number, ...number[]];
    const k = indices.shape[1] as number;
    const last = calls.int32(batch * length - 1);
    const at = calls.run('Minimum', [flatPositions(calls, indices, length), last]);
    const rows = calls.gatherRows(calls.reshape(calls.input(x), [batch * length, ...row]), at);
    const none = calls.reshape(isPadding(calls, indices, length), [batch * k, ...row.map(() => 1)]);
    return calls.reshape(calls.run('SelectV2', [none, calls.float32(0), rows]), [batch, k, ...row]);
  });
}

/** Rows [B·k, ..] added to those of x at the indices, or to zeros: a tensor of `shape` [B, T, ..]. */
function addSelected(
  calls: Calls,
  x: Tensor | undefined,
  rows: Handle,
  indices: Handle,
  shape: number[],
): Handle {
  return calls.scope(() => {
    const [batch, length, ...row] = shape as [number, number, ...number[]];
    const count = batch * length;
    const at = flatPositions(calls, indices, length);
    // One extra row collects what padding adds.
    const all =
      x === undefined
        ? scatterRows(calls, at, rows, [count + 1, ...row])
        : calls.run('TensorScatterAdd', [
            calls.concat([calls.reshape(calls.input(x), [count, ...row]), calls.zeros([1, ...row])], 0),
            calls.reshape(at, [-1, 1]),
            rows,
          ]);
    return calls.reshape(calls.slice(all, 0, 0, count), shape);
  });
}

/** Zeros of `shape` with rows added at positions. */
function scatterRows(calls: Calls, positions: Handle, rows: Handle, shape: number[]): Handle {
  return calls.run('ScatterNd', [calls.reshape(positions, [-1, 1]), rows, calls.vector(shape)]);
}

export const routingKernels = [
  routerLogits,
  selectTopK,
  gatherTokens,
  scatterTokens,
  gatedScatterAdd,
  gatedScatterAddGrad,
];
