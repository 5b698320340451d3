/** Embedding on TensorFlow: rows are gathered and summed by index, in a fixed order. */
import { embeddingGradKernel, embeddingKernel } from '../../ops/embedding.js';
import { tensorflowKernel } from './calls.js';

const embedding = tensorflowKernel(embeddingKernel, (calls, { table, tokens }) => [
  calls.gatherRows(calls.input(table), calls.input(tokens)),
]);

const embeddingGrad = tensorflowKernel(
  embeddingGradKernel,
  (calls, { dy, tokens, gradAccum }, { vocabSize }) => {
    const width = dy.shape[dy.rank - 1] as number;
    const rows = calls.reshape(calls.input(dy), [tokens.size, width]);
    const ids = calls.reshape(calls.input(tokens), [tokens.size]);
    const gradient = calls.run('UnsortedSegmentSum', [rows, ids, calls.int32(vocabSize)]);
    return [gradAccum === undefined ? gradient : calls.add(calls.input(gradAccum), gradient)];
  },
);

export const embeddingKernels = [embedding, embeddingGrad];
