/** RotaryHeads: splits the fused projection into q, k, v by head and turns q and k by their positions (RoPE). */
import {
  add,
  concat,
  gather,
  mul,
  reshape,
  slice,
  stack,
  sub,
  type Tensor,
  tensor2d,
  transpose,
  unstack,
} from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import type { Tape } from './tape.js';

export interface RotaryHeadsInputs extends Record<string, Tensor | undefined> {
  qkv: Tensor;
  table: Tensor;
  positions: Tensor | undefined;
}
export interface RotaryHeadsGradInputs extends Record<string, Tensor | undefined> {
  dq: Tensor;
  dk: Tensor;
  dv: Tensor;
  table: Tensor;
  positions: Tensor | undefined;
}

const ROTARY_BASE = 10000;

/** The cosines and sines of positions 0, 1, ...: [positions, K], a row K/2 cosines, then K/2 sines (Su et al. 2021). */
export function rotaryTable(positions: number, headSize: number): Tensor {
  const half = headSize / 2;
  const table = new Float32Array(positions * headSize);
  for (let t = 0; t < positions; t++) {
    for (let i = 0; i < half; i++) {
      const angle = t * ROTARY_BASE ** (-i / half);
      table[t * headSize + i] = Math.cos(angle);
      table[t * headSize + half + i] = Math.sin(angle);
    }
  }
  return tensor2d(table, [positions, headSize]);
}

/** Rows of the table for a [B, H, n, K/2] half of a head: [1 or B, 1, n, K/2] cosines and sines. */
function cosinesAndSines(
  table: Tensor,
  positions: Tensor | undefined,
  n: number,
): [cos: Tensor, sin: Tensor] {
  const half = (table.shape[1] as number) / 2;
  const rows = positions === undefined ? slice(table, [0, 0], [n, 2 * half]) : gather(table, positions);
  const byHead = reshape(rows, [-1, 1, n, 2 * half]);
  return [slice(byHead, [0, 0, 0, 0], [-1, 1, n, half]), slice(byHead, [0, 0, 0, half], [-1, 1, n, half])];
}

/** Turns the pairs (x_i, x_{i + K/2}) of each head by their angle, backwards where `direction` is -1. */
function rotate(x: Tensor, cos: Tensor, sin: Tensor, direction: 1 | -1): Tensor {
  const [batch, heads, n, size] = x.shape as [number, number, number, number];
  const first = slice(x, [0, 0, 0, 0], [batch, heads, n, size / 2]);
  const second = slice(x, [0, 0, 0, size / 2], [batch, heads, n, size / 2]);
  const turn = mul(sin, direction);
  return concat([sub(mul(first, cos), mul(second, turn)), add(mul(second, cos), mul(first, turn))], 3);
}

/**
 * {qkv [B, n, 3D], table [P, K], positions? [B, n] int32 below P} → [q, k, v], each [B, H, n, K]. Without positions,
 * row t has position t.
 */
export const rotaryHeadsKernel = defineKernel(
  'RotaryHeads',
  ({ qkv, table, positions }: RotaryHeadsInputs, _: object): [q: Tensor, k: Tensor, v: Tensor] => {
    const [batch, n, width] = qkv.shape as [number, number, number];
    const size = table.shape[1] as number;
    const heads = width / 3 / size;
    const [q, k, v] = unstack(transpose(reshape(qkv, [batch, n, 3, heads, size]), [2, 0, 3, 1, 4])) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const [cos, sin] = cosinesAndSines(table, positions, n);
    return [rotate(q, cos, sin, 1), rotate(k, cos, sin, 1), v];
  },
);

/** {dq, dk, dv [B, H, n, K], table, positions?} → [dqkv [B, n, 3D]]: the transposed rotation, merged again. */
export const rotaryHeadsGradKernel = defineKernel(
  'RotaryHeadsGrad',
  ({ dq, dk, dv, table, positions }: RotaryHeadsGradInputs, _: object): [Tensor] => {
    const [batch, heads, n, size] = dq.shape as [number, number, number, number];
    const [cos, sin] = cosinesAndSines(table, positions, n);
    const gradients = stack([rotate(dq, cos, sin, -1), rotate(dk, cos, sin, -1), dv]);
    return [reshape(transpose(gradients, [1, 3, 0, 2, 4]), [batch, n, 3 * heads * size])];
  },
);

/** q, k, v by head, q and k rotated. qkv [B, n, 3D], table [P, K], positions [B, n] or null → 3 × [B, H, n, K] */
export function rotaryHeads(
  tape: Tape | null,
  qkv: Tensor,
  table: Tensor,
  positions: Tensor | null,
): [q: Tensor, k: Tensor, v: Tensor] {
  const where = { table, positions: positions ?? undefined };
  const outputs = rotaryHeadsKernel({ qkv, ...where }, {});
  tape?.record(outputs, [qkv], positions === null ? [] : [positions], ([dq, dk, dv]) =>
    rotaryHeadsGradKernel({ dq, dk, dv, ...where }, {}),
  );
  return outputs;
}
