/** The losses of a batch and their gradients: the language model's, the auxiliary one, the predictors' and the experts'. */
import { addN, concat, div, fill, mean, sum, type Tensor, tensor2d } from '@tensorflow/tfjs-core';
import type { Batch } from '../data/batches.js';
import type { RoutedTrace } from '../model/block.js';
import { expertChoices } from '../model/config.js';
import type { ExpertTrace } from '../model/experts.js';
import type { Transformer } from '../model/transformer.js';
import { balanceLoss } from '../ops/balance-loss.js';
import { binaryCrossEntropyGrad } from '../ops/binary-cross-entropy.js';
import { crossEntropy } from '../ops/cross-entropy.js';
import { scope } from '../ops/scope.js';
import { type OutputGradient, Tape } from '../ops/tape.js';

/** Means over the tokens of a batch, as scalars on the device; the caller disposes them. */
export interface BatchMetrics {
  /** LM loss in nats a token, without the extra losses. */
  loss: Tensor;
  /** Share of tokens whose selection the predictors foresaw, mean over routed blocks; null without predictors. */
  predictorAccuracy: Tensor | null;
  /** A row a block, [blocks · (C + E)]: tokens by choice, then those that each expert took; null without experts. */
  expertCounts: Tensor | null;
}

/**
 * Adds `share` times the gradient of the batch's total loss to every parameter's gradient. The total is
 * LM loss + aux_loss_weight · Σ router cross-entropy + Σ predictor cross-entropy, each a mean over tokens, +
 * balance_loss_weight · Σ balance loss, a mean over sequences; the sums are over blocks. `share` is the micro-batch's part
 * of the batch, so that micro-batches add up to the gradient of the whole. inputs, targets [B, T] int32. Where it fails,
 * what the forward pass kept is freed; gradients may hold a part.
 */
export function backpropagate(
  model: Transformer,
  inputs: Tensor,
  targets: Tensor,
  noise: ((block: number) => Tensor) | null,
  share: number,
): BatchMetrics {
  const tape = new Tape();
  try {
    return scope(() => forwardAndBack(tape, model, inputs, targets, noise, share));
  } catch (error) {
    tape.dispose();
    throw error;
  }
}

/** The same from a batch in the host's memory. */
export function accumulateGradients(
  model: Transformer,
  batch: Batch,
  noise: ((block: number) => Tensor) | null,
  share = 1,
): BatchMetrics {
  return scope(() => {
    const shape: [number, number] = [batch.sequences, batch.inputs.length / batch.sequences];
    const [inputs, targets] = [batch.inputs, batch.targets].map((tokens) => tensor2d(tokens, shape, 'int32'));
    return backpropagate(model, inputs as Tensor, targets as Tensor, noise, share);
  });
}

function forwardAndBack(
  tape: Tape,
  model: Transformer,
  inputs: Tensor,
  targets: Tensor,
  noise: ((block: number) => Tensor) | null,
  share: number,
): BatchMetrics {
  const { logits, routed, experts } = model.forward(inputs, { tape, mode: 'topk', noise, share });
  const losses = crossEntropy(tape, logits, targets);
  const gradientOf = (output: Tensor, weight: number): OutputGradient => ({
    output,
    gradient: fill(output.shape, (weight * share) / output.size),
  });
  const gradients = [gradientOf(losses, 1)];
  const auxiliary = model.config.routing?.aux_loss_weight ?? 0;
  for (const { r, mask } of auxiliary === 0 ? [] : routed) {
    gradients.push({ output: r, gradient: binaryCrossEntropyGrad(r, mask, auxiliary * share) });
  }
  for (const trace of experts) {
    const balance = weightedBalance(tape, model, trace);
    if (balance !== null) gradients.push(gradientOf(balance.losses, balance.weight));
  }
  const metrics = {
    loss: mean(losses),
    predictorAccuracy: predictorAccuracy(routed),
    expertCounts: expertCounts(experts),
  };
  tape.backward(gradients);
  return metrics;
}

function predictorAccuracy(routed: RoutedTrace[]): Tensor | null {
  const blocks = routed.flatMap(({ predictorCorrect }) => predictorCorrect ?? []);
  return blocks.length === 0 ? null : div(addN(blocks), blocks.length);
}

/** The balance loss of each sequence in a block, and its weight; null where it has none. */
function weightedBalance(
  tape: Tape,
  { config: { experts } }: Transformer,
  { logits, probabilities, counts }: ExpertTrace,
): { losses: Tensor; weight: number } | null {
  if (experts === null || experts.balance_loss_weight === 0) return null;
  if (logits === null || probabilities === null) return null;
  const balanced = experts.balance_no_ops ? expertChoices(experts) : experts.count;
  const losses = balanceLoss(tape, logits, probabilities, counts, balanced);
  return { losses, weight: experts.balance_loss_weight };
}

function expertCounts(experts: ExpertTrace[]): Tensor | null {
  return experts.length === 0 ? null : sum(concat(experts.map(({ counts }) => counts)), 1);
}
