/** Agreement: how often yes-or-no answers are right; nothing to differentiate. */
import { cast, equal, greater, mean, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';

/** {logits, labels} of one shape, labels 0 or 1 → [share []] of the logits that are above 0 where the label is 1, and not elsewhere */
export const agreementKernel = defineKernel(
  'Agreement',
  ({ logits, labels }: { logits: Tensor; labels: Tensor }, _: object): [Tensor] => [
    mean(cast(equal(cast(greater(logits, 0), 'float32'), labels), 'float32')),
  ],
);

/** Share of the labels that the logits' signs foretell, a scalar. */
export function agreement(logits: Tensor, labels: Tensor): Tensor {
  return agreementKernel({ logits, labels }, {})[0];
}
