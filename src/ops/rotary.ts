/**
 * Rotary: rotates q and k of the fused projection by their positions (RoPE; Su et al. 2021, section 3.2); v is unchanged. Rows
 * keep the layout of the projection.
 */
import { add, concat, gather, mul, reshape, slice, sub, type Tensor, tensor2d } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';

export interface RotaryInputs extends Record<string, Tensor | undefined> {
  qkv: Tensor;
  table: Tensor;
  positions: Tensor | undefined;
}
export interface RotaryGradInputs extends Record<string, Tensor | undefined> {
  dqkv: Tensor;
  table: Tensor;
  positions: Tensor | undefined;
}

const ROTARY_BASE = 10000;

/**
 * Cosines and sines of positions 0, 1, ...: [positions, K], each row K/2 cosines, then K/2 sines.
 *
 * @param factor of all values: rotated q and k are larger by it, and their products by its square
 */
export function rotaryTable(positions: number, headSize: number, factor = 1): Tensor {
  const half = headSize / 2;
  const table = new Float32Array(positions * headSize);
  for (let t = 0; t < positions; t++) {
    for (let i = 0; i < half; i++) {
      const angle = t * ROTARY_BASE ** (-i / half);
      table[t * headSize + i] = factor * Math.cos(angle);
      table[t * headSize + half + i] = factor * Math.sin(angle);
    }
  }
  return tensor2d(table, [positions, headSize]);
}

/** Rotates the pairs (x_i, x_{i + K/2}) of each head of q and k by direction·t·10000^(-2i/K), t the row's position. */
function rotate(qkv: Tensor, table: Tensor, positions: Tensor | undefined, direction: 1 | -1): Tensor {
  const [batch, n, width] = qkv.shape as [number, number, number];
  const size = table.shape[1] as number;
  const half = size / 2;
  const heads = width / 3 / size;
  const angles = reshape(
    positions === undefined ? slice(table, [0, 0], [n, size]) : gather(table, positions),
    [-1, n, 1, size],
  );
  const cos = slice(angles, [0, 0, 0, 0], [-1, n, 1, half]);
  const sin = mul(slice(angles, [0, 0, 0, half], [-1, n, 1, half]), direction);
  const byHead = reshape(qkv, [batch, n, 3 * heads, size]);
  const first = slice(byHead, [0, 0, 0, 0], [batch, n, 2 * heads, half]);
  const second = slice(byHead, [0, 0, 0, half], [batch, n, 2 * heads, half]);
  const rotated = concat([sub(mul(first, cos), mul(second, sin)), add(mul(second, cos), mul(first, sin))], 3);
  const v = slice(byHead, [0, 0, 2 * heads, 0], [batch, n, heads, size]);
  return reshape(concat([rotated, v], 2), [batch, n, width]);
}

/**
 * {qkv [B, n, 3D] = [B, n, 3, H, K], table [P, K], positions? [B, n] int32 below P} → [qkv with q and k rotated]. Without
 * positions, row t has position t. The input qkv is consumed: a backend may overwrite it.
 */
export const rotaryKernel = defineKernel(
  'Rotary',
  ({ qkv, table, positions }: RotaryInputs, _: object): [Tensor] => [rotate(qkv, table, positions, 1)],
);

/** {dqkv [B, n, 3D], table, positions?} → [dqkv rotated back]; the input is consumed. */
export const rotaryGradKernel = defineKernel(
  'RotaryGrad',
  ({ dqkv, table, positions }: RotaryGradInputs, _: object): [Tensor] => [rotate(dqkv, table, positions, -1)],
);
