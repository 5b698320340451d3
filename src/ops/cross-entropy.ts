/** CrossEntropy: the language-model loss of each token, -log softmax(logits)[target], in nats. */
import { add, exp, expandDims, log, max, mul, reshape, sub, sum, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import { oneHot } from './one-hot.js';
import type { Tape } from './tape.js';

export interface CrossEntropyGradInputs extends Record<string, Tensor> {
  logits: Tensor;
  targets: Tensor;
  logSumExp: Tensor;
  dlosses: Tensor;
}

const hotTargets = (logits: Tensor, targets: Tensor) =>
  oneHot(targets, logits.shape[logits.rank - 1] as number);

/** {logits [.., V], targets [..] int32} → [losses [..], logSumExp [..]], losses = logSumExp - logits[target] */
export const crossEntropyKernel = defineKernel(
  'CrossEntropy',
  (
    { logits, targets }: { logits: Tensor; targets: Tensor },
    _: object,
  ): [losses: Tensor, logSumExp: Tensor] => {
    const top = max(logits, -1, true);
    const total = add(top, log(sum(exp(sub(logits, top)), -1, true)));
    const logSumExp = reshape(total, targets.shape);
    return [sub(logSumExp, sum(mul(logits, hotTargets(logits, targets)), -1)), logSumExp];
  },
);

/** {logits, targets, logSumExp, dlosses [..]} → [dlogits [.., V]] = (softmax - onehot)·dlosses. The logits are consumed. */
export const crossEntropyGradKernel = defineKernel(
  'CrossEntropyGrad',
  ({ logits, targets, logSumExp, dlosses }: CrossEntropyGradInputs, _: object): [Tensor] => {
    const softmax = exp(sub(logits, expandDims(logSumExp, -1)));
    return [mul(sub(softmax, hotTargets(logits, targets)), expandDims(dlosses, -1))];
  },
);

/** logits [.., V], targets [..] int32 → losses [..] in nats. The backward pass may overwrite the logits. */
export function crossEntropy(tape: Tape | null, logits: Tensor, targets: Tensor): Tensor {
  const [losses, logSumExp] = crossEntropyKernel({ logits, targets }, {});
  tape?.record([losses], [logits], [logits, targets, logSumExp], ([dlosses]) =>
    crossEntropyGradKernel({ logits, targets, logSumExp, dlosses }, {}),
  );
  return losses;
}
