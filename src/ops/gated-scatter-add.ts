/**
 * GatedScatterAdd: adds a routed block's output to the residual stream at the selected tokens, scaled by the gate of the router
 * weight (Raposo et al. 2024, equation 1).
 */
import { add, expandDims, less, mul, squeeze, sum, type Tensor, where } from '@tensorflow/tfjs-core';
import { GATES, type Gate } from './gates.js';
import { composedGather, slotOfPosition } from './gather-tokens.js';
import { defineKernel } from './kernel.js';
import type { Tape } from './tape.js';

type GateAttrs = { gate: Gate };
type GatedScatterAddAttrs = GateAttrs & {
  /** Whether x is consumed: a backend may then overwrite it and return its dataId. */
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

/** r at the indices: [B, k, 1] */
const selectedWeights = (r: Tensor, indices: Tensor) => composedGather(expandDims(r, 2), indices);

/**
 * {x [B, T, D], rows [B, k, D], r [B, T], indices [B, k] int32} → [out [B, T, D]]: out_t = x_t + gate(r_t)·rows_t for a
 * selected token, exactly x_t for the others. An index of T marks padding and adds nothing.
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

/** {dout [B, T, D], rows, r, indices} → [drows [B, k, D] = gate(r)·dout, dr [B, T] = gate'(r)·(dout·rows), else 0] */
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
 * out_t = x_t + gate(r_t)·rows_t for selected tokens, else x_t. Shapes as in gatedScatterAddKernel.
 *
 * @param inPlace whether x is consumed: no later op reads it and no earlier op has saved it. Most rows of x stay unchanged,
 *   so a backend saves a copy by updating x in place
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
