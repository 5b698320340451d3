/** The predictor after its first product: its logits, and its loss with all gradients, one pass each: predictor.cu. */
import { type Tensor, tidy } from '@tensorflow/tfjs-core';
import { predictorLogitsKernel, predictorLossGradKernel } from '../../../ops/predictor-logits.js';
import { cudaKernel, rowsOf } from '../driver/call.js';
import { address, float } from '../driver/kernel-library.js';
import { THREADS } from './launch-shapes.js';
import { sumChunks } from './sums.js';

/** Tokens that a block processes at once, by eight lanes each, as in predictor.cu. */
const TOKENS_PER_BLOCK = THREADS / 8;
/** Groups of 64 hidden values for which the gradient has a kernel that keeps its sums in registers. */
const HIDDEN_GROUPS = [1, 2, 4];
/** Blocks of the gradient kernel that fit on a multiprocessor. */
const BLOCKS_PER_MULTIPROCESSOR = 4;

const predictorLogits = cudaKernel(predictorLogitsKernel, (call, inputs) => {
  const { before, bias, weight, bias2 } = inputs;
  const [tokens, hidden] = rowsOf(before);
  if (hidden % 8 !== 0) return tidy(() => predictorLogitsKernel.composed(inputs, {}));
  const logits = call.make(before.shape.slice(0, -1), 'float32');
  const shape = { grid: Math.ceil(tokens / TOKENS_PER_BLOCK), block: THREADS };
  call.launch('predictor', 'predictorLogits', shape, [
    address(call.activation(before)),
    address(call.float(bias)),
    address(call.float(weight)),
    address(call.float(bias2)),
    address(call.at(logits)),
    tokens,
    hidden,
  ]);
  return [logits];
});

const predictorLossGrad = cudaKernel(predictorLossGradKernel, (call, inputs, { lossScale }) => {
  const { before, bias, weight, bias2, labels } = inputs;
  const [tokens, hidden] = rowsOf(before);
  const groups = HIDDEN_GROUPS.find((count) => hidden % 8 === 0 && hidden <= 64 * count);
  if (groups === undefined) return tidy(() => predictorLossGradKernel.composed(inputs, { lossScale }));
  const dbefore = call.makeActivation(before.shape);
  const grid = Math.min(
    Math.ceil(tokens / TOKENS_PER_BLOCK),
    BLOCKS_PER_MULTIPROCESSOR * call.backend.driver.multiprocessors,
  );
  const partials = call.scratch(4 * grid * (2 * hidden + 2));
  call.launch('predictor', `predictorLossGrad${groups}`, { grid, block: THREADS }, [
    address(call.activation(before)),
    address(call.float(bias)),
    address(call.float(weight)),
    address(call.float(bias2)),
    address(call.float(labels)),
    address(call.at(dbefore)),
    address(partials),
    tokens,
    hidden,
    float(lossScale / tokens),
    float(1 / tokens),
  ]);
  const sums = sumChunks(call, partials, grid, [hidden], [1, hidden], [1], []);
  return [dbefore, ...(sums as [Tensor, Tensor, Tensor, Tensor])];
});

export const predictorKernels = [predictorLogits, predictorLossGrad];
