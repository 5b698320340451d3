/** BalanceLoss: least where a sequence's tokens spread evenly over the experts; what keeps a router from using one alone. */
import {
  concat,
  div,
  expandDims,
  maximum,
  mul,
  slice,
  sub,
  sum,
  type Tensor,
  transpose,
  zeros,
} from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import type { Tape } from './tape.js';

export interface BalanceLossInputs extends Record<string, Tensor> {
  /** [B, n, C] */
  probabilities: Tensor;
  /** As DispatchTokens gives it: row i < C is how many tokens of each sequence chose i. */
  counts: Tensor;
}
export interface BalanceLossGradInputs extends BalanceLossInputs {
  sums: Tensor;
  dlosses: Tensor;
}

/** How many of the choices are balanced, from the first: the experts, or the no-ops, too. */
export interface BalanceLossAttrs {
  balanced: number;
}

/** f [B, m]: of the tokens that chose a balanced choice the share of each; all 0 where none did. */
function shares(counts: Tensor, balanced: number): Tensor {
  const chosen = transpose(slice(counts, [0, 0], [balanced, counts.shape[1] as number]));
  return div(chosen, maximum(sum(chosen, 1, true), 1));
}

/**
 * {probabilities p, counts} → [losses [B] = m·Σ_i f_i·P_i, sums [B, m]: S_i = Σ_t p_ti]. Over the m balanced choices: f_i
 * the share of a sequence's tokens that chose i, P_i = S_i / Σ_j S_j the share of probability (Fedus et al. 2022, equations
 * 4 to 6, for each sequence on its own). 1 where all is even.
 */
export const balanceLossKernel = defineKernel(
  'BalanceLoss',
  (
    { probabilities, counts }: BalanceLossInputs,
    { balanced }: BalanceLossAttrs,
  ): [losses: Tensor, sums: Tensor] => {
    const batch = probabilities.shape[0] as number;
    const sums = slice(sum(probabilities, 1), [0, 0], [batch, balanced]);
    const along = sum(mul(shares(counts, balanced), sums), 1);
    return [mul(div(along, sum(sums, 1)), balanced), sums];
  },
);

/**
 * {probabilities p, counts, sums, dlosses [B]} → [dlogits [B, n, C]]. f takes no gradient; with Z = Σ_j S_j and
 * g_i = m·(f_i - Σ_j f_j·S_j/Z)/Z, 0 for what is not balanced: dlogits_ti = dloss·p_ti·(g_i - Σ_j p_tj·g_j).
 */
export const balanceLossGradKernel = defineKernel(
  'BalanceLossGrad',
  (
    { probabilities, counts, sums, dlosses }: BalanceLossGradInputs,
    { balanced }: BalanceLossAttrs,
  ): [Tensor] => {
    const [batch, , choices] = probabilities.shape as [number, number, number];
    const [f, total] = [shares(counts, balanced), sum(sums, 1, true)];
    const mean = div(sum(mul(f, sums), 1, true), total);
    const slopes = mul(div(sub(f, mean), total), balanced); // [B, m]
    const scaled = mul(slopes, expandDims(dlosses, 1));
    const padded = concat([scaled, zeros([batch, choices - balanced])], 1);
    const g = expandDims(padded, 1);
    return [mul(probabilities, sub(g, sum(mul(probabilities, g), -1, true)))];
  },
);

/**
 * The balance loss of each sequence [B]; its gradient reaches the logits [B, n, C], whose softmax `probabilities` are.
 *
 * @param balanced how many choices, from the first, are to be even
 */
export function balanceLoss(
  tape: Tape | null,
  logits: Tensor,
  probabilities: Tensor,
  counts: Tensor,
  balanced: number,
): Tensor {
  const [losses, sums] = balanceLossKernel({ probabilities, counts }, { balanced });
  tape?.record([losses], [logits], [probabilities, counts, sums], ([dlosses]) =>
    balanceLossGradKernel({ probabilities, counts, sums, dlosses }, { balanced }),
  );
  return losses;
}
