/** PredictorLogits on cuda: all that a predictor does behind its first product, and all that it learns there, one pass each. */
import { type Tensor, tidy } from '@tensorflow/tfjs-core';
import { predictorLogitsKernel, predictorLossGradKernel } from '../../ops/predictor-logits.js';
import { registerCudaKernel, rowsOf } from './call.js';
import { address, float } from './kernels.js';
import { sumChunks } from './sums.js';

const THREADS = 256;
/** Tokens that a block takes at once: eight lanes each, as kernels/predictor.cu has it. */
const OF_BLOCK = THREADS / 8;
/** Groups of 64 hidden values for which learning keeps its sums in registers. */
const FORMS = [1, 2, 4];
const BLOCKS = 4;

export function registerPredictor(): void {
  registerCudaKernel(predictorLogitsKernel, (call, inputs) => {
    const { before, bias, weight, bias2 } = inputs;
    const [tokens, hidden] = rowsOf(before);
    if (hidden % 8 !== 0) return tidy(() => predictorLogitsKernel.composed(inputs, {}));
    const logits = call.make(before.shape.slice(0, -1), 'float32');
    const shape = { grid: Math.ceil(tokens / OF_BLOCK), block: THREADS };
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

  registerCudaKernel(predictorLossGradKernel, (call, inputs, { lossScale }) => {
    const { before, bias, weight, bias2, labels } = inputs;
    const [tokens, hidden] = rowsOf(before);
    const form = FORMS.find((groups) => hidden % 8 === 0 && hidden <= 64 * groups);
    if (form === undefined) return tidy(() => predictorLossGradKernel.composed(inputs, { lossScale }));
    const dbefore = call.makeActivation(before.shape);
    const grid = Math.min(Math.ceil(tokens / OF_BLOCK), BLOCKS * call.backend.driver.multiprocessors);
    const partials = call.scratch(4 * grid * (2 * hidden + 2));
    call.launch('predictor', `predictorLossGrad${form}`, { grid, block: THREADS }, [
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
}
