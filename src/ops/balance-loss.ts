/**
 * BalanceLoss: the load-balancing loss of a mixture of experts, smallest if each sequence's tokens are spread evenly over the
 * experts (Fedus et al. 2022, equations 4 to 6).
 */
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
  /** [C + E, B] from DispatchTokens: row i < C counts the tokens of each sequence that chose i. */
  counts: Tensor;
}
export interface BalanceLossGradInputs extends BalanceLossInputs {
  /** [B, m], from the forward pass. */
  sums: Tensor;
  /** [B] */
  dlosses: Tensor;
}

/** m, the number of balanced choices, counted from the first: the experts, or the experts and the no-ops. */
export interface BalanceLossAttrs {
  balanced: number;
}

/** f [B, m]: the fraction of the tokens with a balanced choice that made each choice; 0 if there is no such token. */
function fractions(counts: Tensor, balanced: number): Tensor {
  const chosen = transpose(slice(counts, [0, 0], [balanced, counts.shape[1] as number]));
  return div(chosen, maximum(sum(chosen, 1, true), 1));
}

/**
 * {probabilities p, counts} → [losses [B] = m·Σ_i f_i·P_i, sums [B, m]: S_i = Σ_t p_ti]. Sums over i are over the m balanced
 * choices: f_i is the fraction of a sequence's tokens that chose i, P_i = S_i / Σ_j S_j the fraction of the probability. Each
 * sequence has its own loss, 1 for an even load.
 */
export const balanceLossKernel = defineKernel(
  'BalanceLoss',
  (
    { probabilities, counts }: BalanceLossInputs,
    { balanced }: BalanceLossAttrs,
  ): [losses: Tensor, sums: Tensor] => {
    const batch = probabilities.shape[0];
    const sums = slice(sum(probabilities, 1), [0, 0], [batch, balanced]);
    const along = sum(mul(fractions(counts, balanced), sums), 1);
    return [mul(div(along, sum(sums, 1)), balanced), sums];
  },
);

/**
 * {probabilities p, counts, sums, dlosses [B]} → [dlogits [B, n, C]]. f is a constant; with Z = Σ_j S_j and
 * g_i = m·(f_i - Σ_j f_j·S_j/Z)/Z for balanced choices and 0 for the others: dlogits_ti = dloss·p_ti·(g_i - Σ_j p_tj·g_j).
 */
export const balanceLossGradKernel = defineKernel(
  'BalanceLossGrad',
  (
    { probabilities, counts, sums, dlosses }: BalanceLossGradInputs,
    { balanced }: BalanceLossAttrs,
  ): [Tensor] => {
    const [batch, , choices] = probabilities.shape as [number, number, number];
    const [f, total] = [fractions(counts, balanced), sum(sums, 1, true)];
    const mean = div(sum(mul(f, sums), 1, true), total);
    const slopes = mul(div(sub(f, mean), total), balanced); // [B, m]
    const scaled = mul(slopes, expandDims(dlosses, 1));
    const padded = concat([scaled, zeros([batch, choices - balanced])], 1);
    const g = expandDims(padded, 1);
    return [mul(probabilities, sub(g, sum(mul(probabilities, g), -1, true)))];
  },
);

/**
 * The balance loss of each sequence: [B]. Its gradient goes to the logits [B, n, C]; `probabilities` are their softmax.
 *
 * @param balanced number of balanced choices, counted from the first
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
