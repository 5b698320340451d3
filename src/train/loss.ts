/** The losses of a batch and their gradients: LM loss, auxiliary loss, predictors' loss and experts' balance loss. */
import { addN, concat, div, fill, mean, sum, type Tensor, tensor2d } from '@tensorflow/tfjs-core';
import type { Batch } from '../data/batches.js';
import type { RoutedTrace } from '../model/block.js';
import { expertChoices } from '../model/config.js';
import type { ExpertTrace } from '../model/experts.js';
import type { DrawnWeights } from '../model/routers.js';
import type { Transformer } from '../model/transformer.js';
import { balanceLoss } from '../ops/balance-loss.js';
import { binaryCrossEntropyGrad } from '../ops/binary-cross-entropy.js';
import { crossEntropy } from '../ops/cross-entropy.js';
import { scope } from '../ops/scope.js';
import { type OutputGradient, Tape } from '../ops/tape.js';

/** Means over the tokens of a batch, as scalars on the device; the caller disposes them. */
export interface BatchMetrics {
  /** LM loss in nats per token, without the other losses. */
  loss: Tensor;
  /** Share of tokens whose selection the predictors predict correctly, mean over routed blocks; null without predictors. */
  predictorAccuracy: Tensor | null;
  /**
   * [blocks · (C + E)]: in each block the tokens that made each choice, then those that each expert processed; null without
   * experts.
   */
  expertCounts: Tensor | null;
}

/**
 * Adds `lossScale` times the gradient of the batch's total loss to every parameter's gradient. The total is
 * LM loss + aux_loss_weight · Σ router cross-entropy + Σ predictor cross-entropy, each a mean over tokens, +
 * balance_loss_weight · Σ balance loss, a mean over sequences; the sums are over blocks. inputs, targets [B, T] int32.
 * On an error the tensors of the forward pass are freed; gradients may be incomplete.
 *
 * @param drawn router weights for a router that draws them; null for the others
 * @param lossScale the micro-batch's share of the batch: the gradients of micro-batches add up to that of the batch
 * @param onRouted receives the routed blocks' decisions before their tensors are freed
 */
export function backpropagate(
  model: Transformer,
  inputs: Tensor,
  targets: Tensor,
  drawn: DrawnWeights | null,
  lossScale: number,
  onRouted: (routed: readonly RoutedTrace[]) => void = () => undefined,
): BatchMetrics {
  const tape = new Tape();
  try {
    return scope(() => forwardAndBackward(tape, model, inputs, targets, drawn, lossScale, onRouted));
  } catch (error) {
    tape.dispose();
    throw error;
  }
}

/** `backpropagate` for a batch in the host's memory, by default the whole batch of a step. */
export function accumulateGradients(
  model: Transformer,
  batch: Batch,
  drawn: DrawnWeights | null,
  lossScale = 1,
): BatchMetrics {
  return scope(() => {
    const shape: [number, number] = [batch.sequences, batch.inputs.length / batch.sequences];
    const [inputs, targets] = [batch.inputs, batch.targets].map((tokens) => tensor2d(tokens, shape, 'int32'));
    return backpropagate(model, inputs as Tensor, targets as Tensor, drawn, lossScale);
  });
}

function forwardAndBackward(
  tape: Tape,
  model: Transformer,
  inputs: Tensor,
  targets: Tensor,
  drawn: DrawnWeights | null,
  lossScale: number,
  onRouted: (routed: readonly RoutedTrace[]) => void,
): BatchMetrics {
  const { logits, routed, experts } = model.forward(inputs, { tape, mode: 'topk', drawn, lossScale });
  onRouted(routed);
  const losses = crossEntropy(tape, logits, targets);
  const gradientOf = (output: Tensor, weight: number): OutputGradient => ({
    output,
    gradient: fill(output.shape, (weight * lossScale) / output.size),
  });
  const gradients = [gradientOf(losses, 1)];
  const auxiliary = model.config.routing?.aux_loss_weight ?? 0;
  for (const { r, mask } of auxiliary === 0 ? [] : routed) {
    gradients.push({ output: r, gradient: binaryCrossEntropyGrad(r, mask, auxiliary * lossScale) });
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

/** The balance loss of each sequence in a block, [B], and its weight; null without one. */
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
