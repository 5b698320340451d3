/**
 * CausalAttention: softmax(q·kᵀ/sqrt(K) + causal mask)·v for each head, heads concatenated (Vaswani et al. 2017, section 3.2).
 */
import {
  add,
  concat,
  exp,
  linalg,
  log,
  matMul,
  max,
  mul,
  ones,
  reshape,
  slice,
  stack,
  sub,
  sum,
  type Tensor,
  transpose,
  unstack,
} from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';

export interface CausalAttentionInputs extends Record<string, Tensor> {
  qkv: Tensor;
}
export interface CausalAttentionGradInputs extends CausalAttentionInputs {
  out: Tensor;
  logSumExp: Tensor;
  dout: Tensor;
}
type HeadsAttrs = { heads: number };

/** [n, n]: 0 if row i attends to column j (j ≤ i), else -1e30, whose exponential is 0. */
const causalMask = (n: number) => mul(sub(linalg.bandPart(ones([n, n]), -1, 0), 1), 1e30);

/** Packed rows [B, n, 3, H, K] → q, k and v, each [B, H, n, K]. */
function split(qkv: Tensor, heads: number): [q: Tensor, k: Tensor, v: Tensor] {
  const [batch, n, width] = qkv.shape as [number, number, number];
  const rows = reshape(qkv, [batch, n, 3, heads, width / 3 / heads]);
  return unstack(transpose(rows, [2, 0, 3, 1, 4])) as [Tensor, Tensor, Tensor];
}

const scaledScores = (q: Tensor, k: Tensor) => {
  const [, , n, size] = q.shape as [number, number, number, number];
  return add(mul(matMul(q, k, false, true), 1 / Math.sqrt(size)), causalMask(n));
};

/** {qkv [B, n, 3D] = [B, n, 3, H, K]} → [out [B, n, H·K], logSumExp [B, H, n] of the scaled scores] */
export const causalAttentionKernel = defineKernel(
  'CausalAttention',
  ({ qkv }: CausalAttentionInputs, { heads }: HeadsAttrs): [out: Tensor, logSumExp: Tensor] => {
    const [q, k, v] = split(qkv, heads);
    const [batch, , n, size] = q.shape as [number, number, number, number];
    const scores = scaledScores(q, k);
    const top = max(scores, -1, true);
    const weights = exp(sub(scores, top));
    const total = sum(weights, -1, true);
    const out = matMul(mul(weights, reshape(exp(mul(log(total), -1)), [batch, heads, n, 1])), v);
    return [
      reshape(transpose(out, [0, 2, 1, 3]), [batch, n, heads * size]),
      reshape(add(top, log(total)), [batch, heads, n]),
    ];
  },
);

/**
 * {qkv, out, logSumExp, dout [B, n, H·K]} → [dqkv]. With P the recomputed attention weights:
 * dv = Pᵀ·dout, dS = P∘(dout·vᵀ - rowsum(dout∘out))/sqrt(K), dq = dS·k, dk = dSᵀ·q (Dao et al. 2022, section 3.1).
 */
export const causalAttentionGradKernel = defineKernel(
  'CausalAttentionGrad',
  ({ qkv, out, logSumExp, dout }: CausalAttentionGradInputs, { heads }: HeadsAttrs): [Tensor] => {
    const [q, k, v] = split(qkv, heads);
    const [batch, , n, size] = q.shape as [number, number, number, number];
    const byHead = (x: Tensor) => transpose(reshape(x, [batch, n, heads, size]), [0, 2, 1, 3]);
    const dHeads = byHead(dout);
    const weights = exp(sub(scaledScores(q, k), reshape(logSumExp, [batch, heads, n, 1])));
    const delta = sum(mul(dHeads, byHead(out)), -1, true);
    const dScores = mul(mul(weights, sub(matMul(dHeads, v, false, true), delta)), 1 / Math.sqrt(size));
    const gradients = stack([
      matMul(dScores, k),
      matMul(dScores, q, true, false),
      matMul(weights, dHeads, true, false),
    ]);
    return [reshape(transpose(gradients, [1, 3, 0, 2, 4]), qkv.shape)];
  },
);

/**
 * {qkv [1, N, 3D]} → [out [1, N, D]]: causal attention within each of the consecutive segments of `lengths` tokens, for a
 * packed batch of sequences of different lengths. Forward only.
 */
export const varlenAttentionKernel = defineKernel(
  'VarlenAttention',
  ({ qkv }: CausalAttentionInputs, { heads, lengths }: HeadsAttrs & { lengths: number[] }): [Tensor] => {
    const width = qkv.shape[2] as number;
    let start = 0;
    const parts = lengths.flatMap((length) => {
      if (length === 0) return [];
      const segment = slice(qkv, [0, start, 0], [1, length, width]);
      start += length;
      return causalAttentionKernel({ qkv: segment }, { heads })[0];
    });
    return [parts.length === 1 ? (parts[0] as Tensor) : concat(parts, 1)];
  },
);
