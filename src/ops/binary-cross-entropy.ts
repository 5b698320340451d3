/**
 * BinaryCrossEntropyGrad: how a logit should change to foretell membership of the selected set; router and predictor learn
 * by it. Nobody reads the loss itself, so it is not computed.
 */
import { mul, sigmoid, sub, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';

export interface BinaryCrossEntropyAttributes {
  /** Of the mean over all elements in the total loss. */
  weight: number;
}

/**
 * {logits, labels} of one shape, labels 0 or 1 → [dlogits] = weight · (sigmoid(x) - y) / elements: the gradient of
 * weight · mean(max(x, 0) - x·y + log(1 + exp(-|x|))), the cross-entropy in nats of independent yes-or-no answers.
 */
export const binaryCrossEntropyGradKernel = defineKernel(
  'BinaryCrossEntropyGrad',
  (
    { logits, labels }: { logits: Tensor; labels: Tensor },
    { weight }: BinaryCrossEntropyAttributes,
  ): [Tensor] => [mul(sub(sigmoid(logits), labels), weight / logits.size)],
);

/** The gradient of weight times the mean cross-entropy of yes-or-no answers with respect to their logits. */
export function binaryCrossEntropyGrad(logits: Tensor, labels: Tensor, weight: number): Tensor {
  return binaryCrossEntropyGradKernel({ logits, labels }, { weight })[0];
}
