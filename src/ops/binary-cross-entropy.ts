/** BinaryCrossEntropy: how badly a logit predicts membership of the selected set; router and predictor learn by it. */
import { abs, add, exp, log, mul, neg, relu, sigmoid, sub, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import type { Tape } from './tape.js';

/** {logits, labels} of one shape, labels 0 or 1 → [losses] = max(x, 0) - x·y + log(1 + exp(-|x|)) */
export const binaryCrossEntropyKernel = defineKernel(
  'BinaryCrossEntropy',
  ({ logits, labels }: { logits: Tensor; labels: Tensor }, _: object): [Tensor] => [
    add(sub(relu(logits), mul(logits, labels)), log(add(exp(neg(abs(logits))), 1))),
  ],
);

/** {logits, labels, dlosses} → [dlogits] = (sigmoid(x) - y)·dlosses */
export const binaryCrossEntropyGradKernel = defineKernel(
  'BinaryCrossEntropyGrad',
  ({ logits, labels, dlosses }: { logits: Tensor; labels: Tensor; dlosses: Tensor }, _: object): [Tensor] => [
    mul(sub(sigmoid(logits), labels), dlosses),
  ],
);

/** Cross-entropy of independent yes-or-no answers, in nats, elementwise; labels take no gradient. */
export function binaryCrossEntropy(tape: Tape | null, logits: Tensor, labels: Tensor): Tensor {
  const [losses] = binaryCrossEntropyKernel({ logits, labels }, {});
  tape?.record([losses], [logits], [logits, labels], ([dlosses]) =>
    binaryCrossEntropyGradKernel({ logits, labels, dlosses }, {}),
  );
  return losses;
}
