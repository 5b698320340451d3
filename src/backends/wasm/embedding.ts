/** Embedding on wasm: rows are copied and added by index, in a fixed order. */
import { embeddingGradKernel, embeddingKernel } from '../../ops/embedding.js';
import { addRow, wasmKernel } from './heap.js';

const embedding = wasmKernel(embeddingKernel, (heap, { table, tokens }) => {
  const width = table.shape[1] as number;
  const y = heap.make([...tokens.shape, width]);
  const [rows, ids, to] = [heap.floats(table), heap.ints(tokens), heap.floats(y)];
  ids.forEach((id, i) => {
    to.set(rows.subarray(id * width, (id + 1) * width), i * width);
  });
  return [y];
});

const embeddingGrad = wasmKernel(embeddingGradKernel, (heap, { dy, tokens, gradAccum }, { vocabSize }) => {
  const width = dy.shape[dy.rank - 1] as number;
  const dtable = gradAccum === undefined ? heap.make([vocabSize, width]) : heap.reuse(gradAccum);
  const [from, ids, to] = [heap.floats(dy), heap.ints(tokens), heap.floats(dtable)];
  if (gradAccum === undefined) to.fill(0);
  ids.forEach((id, i) => {
    addRow(to, id * width, from, i * width, width);
  });
  return [dtable];
});

export const embeddingKernels = [embedding, embeddingGrad];
