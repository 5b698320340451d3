/** RotaryAttention: rotary positions, then causal attention, as one kernel, so that a backend can do both in one pass. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { causalAttentionGradKernel, causalAttentionKernel } from './causal-attention.js';
import { defineKernel } from './kernel.js';
import { type RotaryInputs, rotaryGradKernel, rotaryKernel } from './rotary.js';
import type { Tape } from './tape.js';

export interface RotaryAttentionGradInputs extends RotaryInputs {
  out: Tensor;
  logSumExp: Tensor;
  dout: Tensor;
}

/**
 * {qkv [B, n, 3D], table [P, K], positions? [B, n]} → [out [B, n, D], rotated [B, n, 3D], logSumExp [B, H, n]]. The input
 * qkv is consumed: a backend may rotate it in place.
 */
export const rotaryAttentionKernel = defineKernel(
  'RotaryAttention',
  (inputs: RotaryInputs, attrs: { heads: number }): [out: Tensor, rotated: Tensor, logSumExp: Tensor] => {
    const [rotated] = rotaryKernel(inputs, {});
    const [out, logSumExp] = causalAttentionKernel({ qkv: rotated }, attrs);
    return [out, rotated, logSumExp];
  },
);

/** {qkv: rotated, out, logSumExp, dout [B, n, D], table, positions?} → [dqkv] */
export const rotaryAttentionGradKernel = defineKernel(
  'RotaryAttentionGrad',
  (
    { qkv, out, logSumExp, dout, table, positions }: RotaryAttentionGradInputs,
    attrs: { heads: number },
  ): [Tensor] => {
    const [dqkv] = causalAttentionGradKernel({ qkv, out, logSumExp, dout }, attrs);
    return rotaryGradKernel({ dqkv, table, positions }, {});
  },
);

/**
 * Causal attention of each head, with q and k rotated by their positions. qkv [B, n, 3D] = [B, n, 3, H, K], consumed; table
 * [P, K], positions [B, n], or null if row t has position t → [out [B, n, D], rotated qkv]
 */
export function rotaryAttention(
  tape: Tape | null,
  qkv: Tensor,
  table: Tensor,
  positions: Tensor | null,
): [out: Tensor, rotated: Tensor] {
  const where = { table, positions: positions ?? undefined };
  const heads = (qkv.shape[2] as number) / 3 / (table.shape[1] as number);
  const [out, rotated, logSumExp] = rotaryAttentionKernel({ qkv, ...where }, { heads });
  const saved = [rotated, out, logSumExp, ...(positions === null ? [] : [positions])];
  tape?.record([out], [qkv], saved, ([dout]) =>
    rotaryAttentionGradKernel({ qkv: rotated, out, logSumExp, dout, ...where }, { heads }),
  );
  return [out, rotated];
}
