/**
 * Top1Expert: top-1 token choice. Each token goes to its most probable expert or no-op, whose probability scales the expert's
 * output (Fedus et al. 2022, section 2.1).
 */
import { argMax, cast, expandDims, mul, softmax, sub, sum, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import { oneHot } from './one-hot.js';
import type { Tape } from './tape.js';

export interface Top1ExpertGradInputs extends Record<string, Tensor> {
  probabilities: Tensor;
  choice: Tensor;
  dgate: Tensor;
}

/**
 * {logits [B, n, C]} → [probabilities [B, n, C] = softmax(logits), gate [B, n] = their maximum, choice [B, n] int32 = argmax].
 * Among equal logits the lower choice is taken.
 */
export const top1ExpertKernel = defineKernel(
  'Top1Expert',
  ({ logits }: { logits: Tensor }, _: object): [probabilities: Tensor, gate: Tensor, choice: Tensor] => {
    const probabilities = softmax(logits);
    const choice = cast(argMax(logits, -1), 'int32');
    return [probabilities, sum(mul(probabilities, hot(choice, logits)), -1), choice];
  },
);

/** {probabilities p, choice c, dgate [B, n]} → [dlogits [B, n, C]] = dgate·p_c·(onehot(c) - p) */
export const top1ExpertGradKernel = defineKernel(
  'Top1ExpertGrad',
  ({ probabilities, choice, dgate }: Top1ExpertGradInputs, _: object): [Tensor] => {
    const chosen = hot(choice, probabilities);
    const gate = sum(mul(probabilities, chosen), -1);
    return [mul(expandDims(mul(dgate, gate), -1), sub(chosen, probabilities))];
  },
);

const hot = (choice: Tensor, like: Tensor) => oneHot(choice, like.shape[like.rank - 1] as number);

export interface TokenChoice {
  /** [B, n, C], without a gradient. */
  probabilities: Tensor;
  /** The probability of the choice: [B, n]. */
  gate: Tensor;
  /** [B, n] int32 */
  choice: Tensor;
}

/** Top-1 token choice. logits [B, n, C]; their gradient comes through the gate. */
export function top1Expert(tape: Tape | null, logits: Tensor): TokenChoice {
  const [probabilities, gate, choice] = top1ExpertKernel({ logits }, {});
  tape?.record([gate], [logits], [probabilities, choice], ([dgate]) =>
    top1ExpertGradKernel({ probabilities, choice, dgate }, {}),
  );
  return { probabilities, gate, choice };
}
