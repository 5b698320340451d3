/** Rotary positions in place: rotary.cu. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { rotaryGradKernel, rotaryKernel } from '../../../ops/rotary.js';
import type { AttentionShape } from '../driver/attention-graph.js';
import { type Call, cudaKernel } from '../driver/call.js';
import type { Address } from '../driver/driver.js';
import { address, float } from '../driver/kernel-library.js';
import { attentionShape } from './attention.js';
import { elementThreads, vectorOf } from './launch-shapes.js';

/** Angles of the rows: the table [P, K], and the position of each row; null if row t of a sequence has position t. */
export interface Angles {
  table: Address;
  positions: Address | null;
}

const rotary = cudaKernel(rotaryKernel, (call, { qkv, ...where }) => {
  const rotated = call.reuse(qkv, call.backend.activations);
  rotate(call, call.at(rotated), attentionShape(qkv, headsOf(qkv, where.table)), anglesOf(call, where), 1);
  return [rotated];
});

/** The rotation by the negative angle. */
const rotaryGrad = cudaKernel(rotaryGradKernel, (call, { dqkv, ...where }) => {
  const rotated = call.reuse(dqkv, call.backend.activations);
  rotate(call, call.at(rotated), attentionShape(dqkv, headsOf(dqkv, where.table)), anglesOf(call, where), -1);
  return [rotated];
});

export const rotaryKernels = [rotary, rotaryGrad];

/** The addresses of a kernel's table and positions. */
export function anglesOf(
  call: Call,
  { table, positions }: { table: Tensor; positions: Tensor | undefined },
): Angles {
  return { table: call.float(table), positions: positions === undefined ? null : call.int(positions) };
}

/** Rotates q and k of rows [B, n, 3, H, K] by their positions, in place; direction -1 rotates back. */
export function rotate(
  call: Call,
  rows: Address,
  { batch, heads, n, size }: AttentionShape,
  { table, positions }: Angles,
  direction: 1 | -1,
): void {
  const vector = vectorOf(size / 2);
  const threads = (batch * n * 2 * heads * (size / 2)) / vector;
  call.launch('rotary', `rotary${vector}`, elementThreads(threads), [
    address(rows),
    address(table),
    address(positions),
    batch * n,
    n,
    heads,
    size,
    float(direction),
  ]);
}

/** H, from packed rows [B, n, 3·H·K] and the table of angles [P, K]. */
function headsOf(packedRows: Tensor, table: Tensor): number {
  return (packedRows.shape[2] as number) / 3 / (table.shape[1] as number);
}
