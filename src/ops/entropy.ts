/** Entropy: the entropy of the predicted distribution at each token, in nats. Forward only. */
import { exp, log, max, mul, sub, sum, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';

/** {logits [.., V]} → [entropy [..]] = Σ softmax(x)·(log Σ exp(x) - x) */
export const entropyKernel = defineKernel(
  'Entropy',
  ({ logits }: { logits: Tensor }, _: object): [Tensor] => {
    const shifted = sub(logits, max(logits, -1, true));
    const logSum = log(sum(exp(shifted), -1, true));
    const probabilities = exp(sub(shifted, logSum));
    return [sum(mul(probabilities, sub(logSum, shifted)), -1)];
  },
);
