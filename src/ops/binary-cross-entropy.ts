/**
 * BinaryCrossEntropyGrad: the gradient of the binary cross-entropy between logits and the mask of selected tokens, which
 * trains the router (auxiliary loss) and the predictor (Raposo et al. 2024, section 3.5). The loss itself is not computed,
 * since training uses only its gradient.
 */
import { mul, sigmoid, sub, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';

export interface BinaryCrossEntropyAttributes {
  /** Weight of the mean over all elements in the total loss. */
  weight: number;
}

/**
 * {logits, labels} of one shape, labels 0 or 1 → [dlogits] = weight · (sigmoid(x) - y) / elements: the gradient of
 * weight · mean(max(x, 0) - x·y + log(1 + exp(-|x|))), the binary cross-entropy in nats.
 */
export const binaryCrossEntropyGradKernel = defineKernel(
  'BinaryCrossEntropyGrad',
  (
    { logits, labels }: { logits: Tensor; labels: Tensor },
    { weight }: BinaryCrossEntropyAttributes,
  ): [Tensor] => [mul(sub(sigmoid(logits), labels), weight / logits.size)],
);

/** The gradient of weight · mean(binary cross-entropy) with respect to the logits. */
export function binaryCrossEntropyGrad(logits: Tensor, labels: Tensor, weight: number): Tensor {
  return binaryCrossEntropyGradKernel({ logits, labels }, { weight })[0];
}
