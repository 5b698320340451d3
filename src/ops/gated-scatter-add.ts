/** GatedScatterAdd: what a routed block adds to the residual stream, scaled by the router's gate. */
import { add, expandDims, less, mul, squeeze, sum, type Tensor, where } from '@tensorflow/tfjs-core';
import { GATES, type Gate } from './gates.js';
import { composedGather, slotOfPosition } from './gather-tokens.js';
import { defineKernel } from './kernel.js';
import type { Tape } from './tape.js';

type GateAttrs = { gate: Gate };
type GatedScatterAddAttrs = GateAttrs & {
  /** Whether nobody reads x any more: a backend may then write the result over it, and give both one dataId. */
  inPlace: boolean;
};

export interface GatedScatterAddInputs extends Record<string, Tensor> {
  x: Tensor;
  rows: Tensor;
  r: Tensor;
  indices: Tensor;
}
export interface GatedScatterAddGradInputs extends Record<string, Tensor> {
  dout: Tensor;
  rows: Tensor;
  r: Tensor;
  indices: Tensor;
}

/** r at the indices, as a column: [B, k, 1] */
const selectedWeights = (r: Tensor, indices: Tensor) => composedGather(expandDims(r, 2), indices);

/**
 * {x [B, T, D], rows [B, k, D], r [B, T], indices [B, k] int32} → [out [B, T, D]]: x_t + gate(r_t)·rows for a selected
 * token, x_t to the bit for the others. An index of T marks padding and adds nothing.
 */
export const gatedScatterAddKernel = defineKernel(
  'GatedScatterAdd',
  ({ x, rows, r, indices }: GatedScatterAddInputs, { gate }: GatedScatterAddAttrs): [Tensor] => {
    const weights = selectedWeights(r, indices);
    const gated = mul(GATES[gate].values(weights), rows);
    const length = x.shape[1] as number;
    const slots = slotOfPosition(indices, length);
    const mask = less(slots, indices.shape[1] as number);
    return [where(expandDims(mask, 2), add(x, composedGather(gated, slots)), x)];
  },
);

/** {dout [B, T, D], rows, r, indices} → [drows [B, k, D] = gate(r)·dout, dr [B, T] = gate'(r)·(dout·rows), 0 off S] */
export const gatedScatterAddGradKernel = defineKernel(
  'GatedScatterAddGrad',
  (
    { dout, rows, r, indices }: GatedScatterAddGradInputs,
    { gate }: GateAttrs,
  ): [drows: Tensor, dr: Tensor] => {
    const weights = selectedWeights(r, indices);
    const value = GATES[gate].values(weights);
    const slope = GATES[gate].slopes(weights);
    const dSelected = composedGather(dout, indices);
    const dWeights = mul(slope, sum(mul(dSelected, rows), 2, true));
    const dr = composedGather(dWeights, slotOfPosition(indices, r.shape[1] as number));
    return [mul(value, dSelected), squeeze(dr, [2])];
  },
);

/**
 * out_t = x_t + gate(r_t)·rows_t for t in S, else x_t (paper, equation 1). Shapes as the kernel's.
 *
 * @param inPlace whether the caller gives x up, as no op after this one reads it and none before it has saved it: most of x
 *   stays as it is, so that a backend need not copy it
 */
export function gatedScatterAdd(
  tape: Tape | null,
  x: Tensor,
  rows: Tensor,
  r: Tensor,
  indices: Tensor,
  gate: Gate,
  inPlace = false,
): Tensor {
  const [out] = gatedScatterAddKernel({ x, rows, r, indices }, { gate, inPlace });
  tape?.record([out], [x, rows, r], [rows, r, indices], ([dout]) => [
    dout,
    ...gatedScatterAddGradKernel({ dout, rows, r, indices }, { gate }),
  ]);
  return out;
}
