/** CausalAttention: softmax(q·kᵀ/sqrt(K) under the causal mask)·v for each head, heads merged. */
import {
  add,
  exp,
  linalg,
  log,
  matMul,
  max,
  mul,
  ones,
  reshape,
  sub,
  sum,
  type Tensor,
  transpose,
} from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import type { Tape } from './tape.js';

export interface CausalAttentionInputs extends Record<string, Tensor> {
  q: Tensor;
  k: Tensor;
  v: Tensor;
}
export interface CausalAttentionGradInputs extends CausalAttentionInputs {
  out: Tensor;
  logSumExp: Tensor;
  dout: Tensor;
}

/** 0 where row i may attend to column j, that is j ≤ i, and a number no exponential survives elsewhere. [n, n] */
const causalMask = (n: number) => mul(sub(linalg.bandPart(ones([n, n]), -1, 0), 1), 1e30);

const scaledScores = (q: Tensor, k: Tensor) => {
  const [, , n, size] = q.shape as [number, number, number, number];
  return add(mul(matMul(q, k, false, true), 1 / Math.sqrt(size)), causalMask(n));
};

/** {q, k, v [B, H, n, K]} → [out [B, n, H·K], logSumExp [B, H, n] of the scaled scores] */
export const causalAttentionKernel = defineKernel(
  'CausalAttention',
  ({ q, k, v }: CausalAttentionInputs, _: object): [out: Tensor, logSumExp: Tensor] => {
    const [batch, heads, n, size] = q.shape as [number, number, number, number];
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
 * {q, k, v, out, logSumExp, dout [B, n, H·K]} → [dq, dk, dv]. With P the attention weights, recomputed:
 * dv = Pᵀ·dout, dS = P∘(dout·vᵀ - rowsum(dout∘out))/sqrt(K), dq = dS·k, dk = dSᵀ·q (Dao et al. 2022, section 3.1).
 */
export const causalAttentionGradKernel = defineKernel(
  'CausalAttentionGrad',
  (inputs: CausalAttentionGradInputs, _: object): [dq: Tensor, dk: Tensor, dv: Tensor] => {
    const { q, k, v, out, logSumExp, dout } = inputs;
    const [batch, heads, n, size] = q.shape as [number, number, number, number];
    const byHead = (x: Tensor) => transpose(reshape(x, [batch, n, heads, size]), [0, 2, 1, 3]);
    const dHeads = byHead(dout);
    const weights = exp(sub(scaledScores(q, k), reshape(logSumExp, [batch, heads, n, 1])));
    const delta = sum(mul(dHeads, byHead(out)), -1, true);
    const dScores = mul(mul(weights, sub(matMul(dHeads, v, false, true), delta)), 1 / Math.sqrt(size));
    return [matMul(dScores, k), matMul(dScores, q, true, false), matMul(weights, dHeads, true, false)];
  },
);

/** Causal attention by head. q, k, v [B, H, n, K] → [B, n, H·K] */
export function causalAttention(tape: Tape | null, q: Tensor, k: Tensor, v: Tensor): Tensor {
  const [out, logSumExp] = causalAttentionKernel({ q, k, v }, {});
  tape?.record([out], [q, k, v], [q, k, v, out, logSumExp], ([dout]) =>
    causalAttentionGradKernel({ q, k, v, out, logSumExp, dout }, {}),
  );
  return out;
}
