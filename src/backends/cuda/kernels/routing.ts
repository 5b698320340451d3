/** Routed blocks: router weights, top-k selection, gather and gated scatter, and their gradients: routing.cu. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { gatedScatterAddGradKernel, gatedScatterAddKernel } from '../../../ops/gated-scatter-add.js';
import type { Gate } from '../../../ops/gates.js';
import { gatherTokensKernel, scatterTokensKernel } from '../../../ops/gather-tokens.js';
import { normalDrawsKernel } from '../../../ops/normal-draws.js';
import { routedGatherGradKernel } from '../../../ops/routed-gather.js';
import {
  addRouterLogitsKernel,
  routerLogitsGradKernel,
  routerLogitsKernel,
} from '../../../ops/router-logits.js';
import { selectTopKKernel } from '../../../ops/select-top-k.js';
import { type Call, cudaKernel, rowsOf } from '../driver/call.js';
import type { Address } from '../driver/driver.js';
import { address } from '../driver/kernel-library.js';
import { BYTES_PER_ELEMENT } from '../driver/storage.js';
import { GATE_CODES } from './gate.js';
import { elementThreads, persistentGrid, rowTiling, vectorOf, WARP, warpRows } from './launch-shapes.js';
import { sumChunks, sumColumns } from './sums.js';

const routerLogits = cudaKernel(routerLogitsKernel, (call, { x, weight }) => {
  const [tokens, width] = rowsOf(x);
  const r = call.make(x.shape.slice(0, 2), 'float32');
  call.launch('routing', `routerLogits${vectorOf(width)}`, warpRows(tokens), [
    address(call.activation(x)),
    address(call.float(weight)),
    address(call.at(r)),
    tokens,
    width,
  ]);
  return [r];
});

/** The router weights of a residual sum; the sum is an output as well. */
const addRouterLogits = cudaKernel(addRouterLogitsKernel, (call, { x, branch, weight }) => {
  const [tokens, width] = rowsOf(x);
  const [sum, r] = [call.makeActivation(x.shape), call.make(x.shape.slice(0, 2), 'float32')];
  call.launch('routing', `addRouterLogits${vectorOf(width)}`, warpRows(tokens), [
    address(call.activation(x)),
    address(call.activation(branch)),
    address(call.float(weight)),
    address(call.at(sum)),
    address(call.at(r)),
    tokens,
    width,
  ]);
  return [sum, r];
});

/** dx and the router's gradient in one pass, or in two passes for widths without a tiling. */
const routerLogitsGrad = cudaKernel(routerLogitsGradKernel, (call, { dr, x, weight, gradAccum }) => {
  const [tokens, width] = rowsOf(x);
  const { sum: dx, accumulate } = call.accumulator(gradAccum, x.shape, call.backend.activations);
  const [scale, w] = [call.float(dr), call.float(weight)];
  const tiling = rowTiling(width);
  if (tiling === null) {
    call.launch('routing', 'routerLogitsGradAnyWidth', warpRows(tokens), [
      address(scale),
      address(w),
      address(call.at(dx)),
      tokens,
      width,
      accumulate,
    ]);
    return [dx, sumColumns(call, { dy: x, scale, rows: tokens, width, shape: weight.shape })];
  }
  const { name, shape } = persistentGrid(call, 'routerLogitsGrad', tiling, Math.ceil(tokens / WARP), width);
  const partials = call.scratch(4 * shape.grid * width);
  call.launch('routing', name, shape, [
    address(scale),
    address(call.activation(x)),
    address(w),
    address(call.at(dx)),
    address(partials),
    tokens,
    width,
    accumulate,
  ]);
  return [dx, sumChunks(call, partials, shape.grid, weight.shape)[0] as Tensor];
});

const normalDraws = cudaKernel(normalDrawsKernel, (call, { key, first }, { sequences, length }) => {
  const draws = call.make([sequences, length], 'float32');
  const groups = Math.ceil(length / 4);
  call.launch('routing', 'normalDraws', elementThreads(sequences * groups), [
    address(call.int(key)),
    address(call.int(first)),
    address(call.at(draws)),
    sequences,
    length,
    groups,
  ]);
  return [draws];
});

/** One block per sequence. */
const selectTopK = cudaKernel(selectTopKKernel, (call, { r }, { k }) => {
  const [batch, length] = r.shape as [number, number];
  const [indices, mask] = [call.make([batch, k], 'int32'), call.make(r.shape, 'float32')];
  call.launch('routing', 'selectTopK', { grid: batch, block: 1024 }, [
    address(call.float(r)),
    address(call.at(indices)),
    address(call.at(mask)),
    length,
    k,
  ]);
  return [indices, mask];
});

const gatherTokens = cudaKernel(gatherTokensKernel, (call, { x, indices }) => {
  const [batch, k] = indices.shape as [number, number];
  const [, length, width] = x.shape as [number, number, number];
  const rows = call.makeActivation([batch, k, width]);
  call.launch('routing', `gather${vectorOf(width)}`, warpRows(batch * k), [
    address(call.activation(x)),
    address(call.int(indices)),
    address(call.at(rows)),
    batch * k,
    k,
    length,
    width,
  ]);
  return [rows];
});

/** Adds rows to gradAccum or to zeros. No two rows have the same token. */
const scatterTokens = cudaKernel(scatterTokensKernel, (call, { rows, indices, gradAccum }, { length }) => {
  const [batch, , width] = rows.shape as [number, number, number];
  const { sum: y, accumulate } = call.accumulator(
    gradAccum,
    [batch, length, width],
    call.backend.activations,
  );
  if (!accumulate) call.backend.driver.zero(call.at(y), y.size * BYTES_PER_ELEMENT[call.backend.activations]);
  scatterAdd(call, { rows, indices }, null, call.at(y), length);
  return [y];
});

/** dx and the router's gradient in one pass over the selected rows, or in two passes for widths without a tiling. */
const routedGatherGrad = cudaKernel(
  routedGatherGradKernel,
  (call, { dr, drows, rows, indices, weight, gradAccum }) => {
    const [batch, k, width] = rows.shape as [number, number, number];
    const length = dr.shape[1] as number;
    const { activations, driver } = call.backend;
    const { sum: dx, accumulate } = call.accumulator(gradAccum, [batch, length, width], activations);
    if (!accumulate) driver.zero(call.at(dx), dx.size * BYTES_PER_ELEMENT[activations]);
    const [ofTokens, gradient] = [address(call.float(dr)), address(call.activation(drows))];
    const [at, w] = [address(call.int(indices)), address(call.float(weight))];
    const sizes = [batch * k, k, length, width];
    const tiling = rowTiling(width);
    if (tiling === null) {
      const scale = call.scratch(4 * batch * k);
      const args = [ofTokens, gradient, at, w, address(call.at(dx)), address(scale), ...sizes];
      call.launch('routing', 'routedGatherGradAnyWidth', warpRows(batch * k), args);
      return [dx, sumColumns(call, { dy: rows, scale, rows: batch * k, width, shape: weight.shape })];
    }
    const { name, shape } = persistentGrid(call, 'routedGatherGrad', tiling, batch * k, width);
    const partials = call.scratch(4 * shape.grid * width);
    const selected = address(call.activation(rows));
    const args = [ofTokens, gradient, selected, at, w, address(call.at(dx)), address(partials), ...sizes];
    call.launch('routing', name, shape, args);
    return [dx, sumChunks(call, partials, shape.grid, weight.shape)[0] as Tensor];
  },
);

/** The output is written over x if `inPlace`, so that only selected tokens are written. */
const gatedScatterAdd = cudaKernel(
  gatedScatterAddKernel,
  (call, { x, rows, r, indices }, { gate, inPlace }) => {
    const { activations } = call.backend;
    const out = inPlace ? call.overwrite(x, activations) : call.copy(x, activations);
    scatterAdd(call, { rows, indices }, { r, gate }, call.at(out), x.shape[1] as number);
    return [out];
  },
);

const gatedScatterAddGrad = cudaKernel(
  gatedScatterAddGradKernel,
  (call, { dout, rows, r, indices }, { gate }) => {
    const [batch, k] = indices.shape as [number, number];
    const [, length, width] = dout.shape as [number, number, number];
    const [drows, dr] = [call.makeActivation(rows.shape), call.make(r.shape, 'float32')];
    call.backend.driver.zero(call.at(dr), 4 * r.size);
    call.launch('routing', `scatterAddGrad${vectorOf(width)}`, warpRows(batch * k), [
      address(call.activation(dout)),
      address(call.activation(rows)),
      address(call.float(r)),
      address(call.int(indices)),
      address(call.at(drows)),
      address(call.at(dr)),
      batch * k,
      k,
      length,
      width,
      GATE_CODES[gate],
    ]);
    return [drows, dr];
  },
);

export const routingKernels = [
  routerLogits,
  addRouterLogits,
  routerLogitsGrad,
  normalDraws,
  selectTopK,
  gatherTokens,
  scatterTokens,
  routedGatherGrad,
  gatedScatterAdd,
  gatedScatterAddGrad,
];

/** y[token of the row] += row, for each row; multiplied by the gate of the token's router weight if `gated`. */
function scatterAdd(
  call: Call,
  { rows, indices }: { rows: Tensor; indices: Tensor },
  gated: { r: Tensor; gate: Gate } | null,
  y: Address,
  length: number,
): void {
  const [batch, k, width] = rows.shape as [number, number, number];
  call.launch('routing', `scatterAdd${vectorOf(width)}`, warpRows(batch * k), [
    address(call.activation(rows)),
    address(call.int(indices)),
    address(gated === null ? null : call.float(gated.r)),
    address(y),
    batch * k,
    k,
    length,
    width,
    gated === null ? 0 : GATE_CODES[gated.gate],
  ]);
}
