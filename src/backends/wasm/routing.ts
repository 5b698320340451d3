/** Routed blocks on wasm: router weights, top-k selection, gather and gated scatter, and their gradients. */
import { gatedScatterAddGradKernel, gatedScatterAddKernel } from '../../ops/gated-scatter-add.js';
import { GATES } from '../../ops/gates.js';
import { gatherTokensKernel, scatterTokensKernel } from '../../ops/gather-tokens.js';
import { routerLogitsGradKernel, routerLogitsKernel } from '../../ops/router-logits.js';
import { selectTopKKernel } from '../../ops/select-top-k.js';
import { addRow, wasmKernel } from './heap.js';

const routerLogits = wasmKernel(routerLogitsKernel, (heap, { x, weight }) => {
  const r = heap.make(x.shape.slice(0, 2));
  const [rows, w, to] = [heap.floats(x), heap.floats(weight), heap.floats(r)];
  for (let row = 0; row < to.length; row++) {
    let dot = 0;
    for (let d = 0; d < w.length; d++) dot += (rows[row * w.length + d] as number) * (w[d] as number);
    to[row] = dot;
  }
  return [r];
});

const routerLogitsGrad = wasmKernel(routerLogitsGradKernel, (heap, { dr, x, weight, gradAccum }) => {
  const dx = gradAccum === undefined ? heap.make(x.shape) : heap.reuse(gradAccum);
  const dweight = heap.make(weight.shape);
  const [d, rows, w, to] = [heap.floats(dr), heap.floats(x), heap.floats(weight), heap.floats(dx)];
  if (gradAccum === undefined) to.fill(0);
  const width = w.length;
  const sums = new Float64Array(width);
  for (let row = 0; row < d.length; row++) {
    const scale = d[row] as number;
    if (scale === 0) continue; // most tokens are not selected
    for (let i = 0; i < width; i++) {
      const at = row * width + i;
      to[at] = (to[at] as number) + scale * (w[i] as number);
      sums[i] = (sums[i] as number) + scale * (rows[at] as number);
    }
  }
  heap.floats(dweight).set(sums);
  return [dx, dweight];
});

const selectTopK = wasmKernel(selectTopKKernel, (heap, { r }, { k }) => {
  const [batch, length] = r.shape as [number, number];
  const indices = heap.make([batch, k], 'int32');
  const mask = heap.make([batch, length]);
  const [weights, to, selected] = [heap.floats(r), heap.ints(indices), heap.floats(mask)];
  selected.fill(0);
  for (let b = 0; b < batch; b++) {
    const row = weights.subarray(b * length, (b + 1) * length);
    const best = largest(row, k);
    to.set(best, b * k);
    for (const t of best) selected[b * length + t] = 1;
  }
  return [indices, mask];
});

const gatherTokens = wasmKernel(gatherTokensKernel, (heap, { x, indices }) => {
  const [batch, k] = indices.shape as [number, number];
  const [, length, width] = x.shape as [number, number, number];
  const rows = heap.make([batch, k, width]);
  const [from, at, to] = [heap.floats(x), heap.ints(indices), heap.floats(rows)];
  to.fill(0);
  forEachSelected(at, k, length, (slot, token) => {
    to.set(from.subarray(token * width, (token + 1) * width), slot * width);
  });
  return [rows];
});

const scatterTokens = wasmKernel(scatterTokensKernel, (heap, { rows, indices, gradAccum }, { length }) => {
  const [batch, k, width] = rows.shape as [number, number, number];
  const y = gradAccum === undefined ? heap.make([batch, length, width]) : heap.reuse(gradAccum);
  const [from, at, to] = [heap.floats(rows), heap.ints(indices), heap.floats(y)];
  if (gradAccum === undefined) to.fill(0);
  forEachSelected(at, k, length, (slot, token) => {
    addRow(to, token * width, from, slot * width, width);
  });
  return [y];
});

const gatedScatterAdd = wasmKernel(gatedScatterAddKernel, (heap, { x, rows, r, indices }, { gate }) => {
  const [, length, width] = x.shape as [number, number, number];
  const out = heap.make(x.shape);
  const [from, at, weights] = [heap.floats(rows), heap.ints(indices), heap.floats(r)];
  const to = heap.floats(out);
  const { value } = GATES[gate];
  to.set(heap.floats(x));
  forEachSelected(at, indices.shape[1] as number, length, (slot, token) => {
    const scale = value(weights[token] as number);
    for (let d = 0; d < width; d++) {
      const i = token * width + d;
      to[i] = (to[i] as number) + scale * (from[slot * width + d] as number);
    }
  });
  return [out];
});

const gatedScatterAddGrad = wasmKernel(
  gatedScatterAddGradKernel,
  (heap, { dout, rows, r, indices }, { gate }) => {
    const [, length, width] = dout.shape as [number, number, number];
    const [drows, dr] = [heap.make(rows.shape), heap.make(r.shape)];
    const [d, from, at, weights] = [heap.floats(dout), heap.floats(rows), heap.ints(indices), heap.floats(r)];
    const [dFrom, dWeights] = [heap.floats(drows), heap.floats(dr)];
    const { value, slope } = GATES[gate];
    dFrom.fill(0);
    dWeights.fill(0);
    forEachSelected(at, indices.shape[1] as number, length, (slot, token) => {
      const weight = weights[token] as number;
      const scale = value(weight);
      let dot = 0;
      for (let i = 0; i < width; i++) {
        const gradient = d[token * width + i] as number;
        dFrom[slot * width + i] = scale * gradient;
        dot += gradient * (from[slot * width + i] as number);
      }
      dWeights[token] = slope(weight) * dot;
    });
    return [drows, dr];
  },
);

/** Calls `visit` for every selected token with its slot among B·k and its row among B·T. An index of T is padding. */
function forEachSelected(
  indices: Int32Array,
  k: number,
  length: number,
  visit: (slot: number, token: number) => void,
): void {
  for (let slot = 0; slot < indices.length; slot++) {
    const position = indices[slot] as number;
    if (position < length) visit(slot, Math.floor(slot / k) * length + position);
  }
}

/** Positions of the k largest weights in ascending order; ties go to the lower position, NaN is the smallest. */
function largest(weights: Float32Array, k: number): Int32Array {
  const value = (t: number) => {
    const weight = weights[t] as number;
    return Number.isNaN(weight) ? Number.NEGATIVE_INFINITY : weight;
  };
  const order = Int32Array.from(weights, (_, t) => t);
  order.sort((a, b) => {
    const [left, right] = [value(a), value(b)];
    return left === right ? a - b : right > left ? 1 : -1;
  });
  return order.subarray(0, k).sort();
}

export const routingKernels = [
  routerLogits,
  routerLogitsGrad,
  selectTopK,
  gatherTokens,
  scatterTokens,
  gatedScatterAdd,
  gatedScatterAddGrad,
];
