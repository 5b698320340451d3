/** Embedding: y_t = table[token_t]; the gradient of a row is the sum over the tokens that use it. */
import { add, gather, matMul, reshape, type Tensor } from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import { oneHot } from './one-hot.js';
import type { Parameter, Tape } from './tape.js';

export interface EmbeddingGradInputs extends Record<string, Tensor | undefined> {
  dy: Tensor;
  tokens: Tensor;
  /** The accumulated gradient [V, D], which is consumed. */
  gradAccum: Tensor | undefined;
}

/** {table [V, D], tokens [B, T] int32} → [y [B, T, D]] */
export const embeddingKernel = defineKernel(
  'Embedding',
  ({ table, tokens }: { table: Tensor; tokens: Tensor }, _: object): [Tensor] => [gather(table, tokens)],
);

/** {dy [B, T, D], tokens [B, T] int32, gradAccum? [V, D]} → [dtable [V, D] = gradAccum + onehot(tokens)ᵀ·dy], deterministic. */
export const embeddingGradKernel = defineKernel(
  'EmbeddingGrad',
  ({ dy, tokens, gradAccum }: EmbeddingGradInputs, { vocabSize }: { vocabSize: number }): [Tensor] => {
    const hot = oneHot(reshape(tokens, [-1]), vocabSize);
    const gradient = matMul(hot, reshape(dy, [-1, dy.shape[dy.rank - 1] as number]), true, false);
    return [gradAccum === undefined ? gradient : add(gradAccum, gradient)];
  },
);

/** Rows of the table, unscaled. table [V, D], tokens [B, T] int32 → [B, T, D] */
export function embedding(tape: Tape | null, table: Parameter, tokens: Tensor): Tensor {
  const [y] = embeddingKernel({ table: table.value, tokens }, {});
  const vocabSize = table.value.shape[0];
  tape?.record([y], [table], [tokens], ([dy], inputs) =>
    embeddingGradKernel({ dy, tokens, gradAccum: inputs.gradAccum(0) }, { vocabSize }),
  );
  return y;
}
