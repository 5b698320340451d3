/**
 * The predictor of a routed block, which decides in sampling whether a token is processed (Raposo et al. 2024, section 3.5).
 * PredictorLogits: its layers after the first product (bias, gelu, one logit for each token), with float32 logits.
 * PredictorLossGrad: the gradients of its binary cross-entropy against the mask of the selected tokens. The predictor is
 * trained on this loss only and its input gets no gradient, so the gradients are computed during the forward pass.
 */
import { cast, equal, greater, mean, type Tensor } from '@tensorflow/tfjs-core';
import { biasGradKernel, biasKernel } from './bias.js';
import { binaryCrossEntropyGradKernel } from './binary-cross-entropy.js';
import { geluGradKernel, geluKernel } from './gelu.js';
import { defineKernel } from './kernel.js';
import { linearGradWeightKernel, linearKernel } from './linear.js';
import { routerLogitsGradKernel, routerLogitsKernel } from './router-logits.js';
import type { Parameter } from './tape.js';

export interface PredictorLogitsInputs extends Record<string, Tensor> {
  /** [B, T, P] */
  before: Tensor;
  /** [P] */
  bias: Tensor;
  /** [1, P] */
  weight: Tensor;
}

const hiddenOf = ({ before, bias }: PredictorLogitsInputs): [biased: Tensor, hidden: Tensor] => {
  const [biased] = biasKernel({ x: before, bias }, {});
  return [biased, geluKernel({ x: biased }, {})[0]];
};

/** {before [B, T, P], bias [P], weight [1, P], bias2 [1]} → [logits [B, T]] = weight·gelu(before + bias) + bias2 */
export const predictorLogitsKernel = defineKernel(
  'PredictorLogits',
  ({ bias2, ...inputs }: PredictorLogitsInputs & { bias2: Tensor }, _: object): [Tensor] => {
    const [logits] = routerLogitsKernel({ x: hiddenOf(inputs)[1], weight: inputs.weight }, {});
    return biasKernel({ x: logits, bias: bias2 }, {});
  },
);

/**
 * {before, bias, weight, bias2, labels [B, T] 0 or 1} → [dbefore [B, T, P], dbias [P], dweight [1, P], dbias2 [1],
 * accuracy []]. The gradients are those of lossScale · mean binary cross-entropy over the tokens, in nats; accuracy is the
 * fraction of tokens whose logit is above 0 exactly if the label is 1. With h = gelu(before + bias) and
 * d = lossScale · (sigmoid(logit) - label) / tokens: dbefore = d⊗weight∘gelu', dbias = Σ dbefore, dweight = Σ d·h, dbias2 = Σ d.
 */
export const predictorLossGradKernel = defineKernel(
  'PredictorLossGrad',
  (
    { labels, bias2, ...inputs }: PredictorLogitsInputs & { bias2: Tensor; labels: Tensor },
    { lossScale }: { lossScale: number },
  ): [dbefore: Tensor, dbias: Tensor, dweight: Tensor, dbias2: Tensor, accuracy: Tensor] => {
    const { weight, bias } = inputs;
    const [biased, hidden] = hiddenOf(inputs);
    const [product] = routerLogitsKernel({ x: hidden, weight }, {});
    const [logits] = biasKernel({ x: product, bias: bias2 }, {});
    const [dlogits] = binaryCrossEntropyGradKernel({ logits, labels }, { weight: lossScale });
    const [dhidden, dweight] = routerLogitsGradKernel(
      { dr: dlogits, x: hidden, weight, gradAccum: undefined },
      {},
    );
    const [dbefore] = geluGradKernel({ dy: dhidden, x: biased }, {});
    const [dbias] = biasGradKernel({ dy: dbefore }, { width: bias.size });
    const [dbias2] = biasGradKernel({ dy: dlogits }, { width: 1 });
    const accuracy = mean(cast(equal(cast(greater(logits, 0), 'float32'), labels), 'float32'));
    return [dbefore, dbias, dweight, dbias2, accuracy];
  },
);

/** A predictor's layers: fc1 [P, D] and fc1Bias [P], fc2 [1, P] and fc2Bias [1]. */
export interface PredictorLayers {
  fc1: Parameter;
  fc1Bias: Parameter;
  fc2: Parameter;
  fc2Bias: Parameter;
}

/** fc2(gelu(fc1(x))) with biases. x [B, T, D] → logits [B, T] */
export function predictorLogits(x: Tensor, { fc1, fc1Bias, fc2, fc2Bias }: PredictorLayers): Tensor {
  const [before] = linearKernel({ x, weight: fc1.value }, { alpha: 1 });
  const inputs = { before, bias: fc1Bias.value, weight: fc2.value, bias2: fc2Bias.value };
  return predictorLogitsKernel(inputs, {})[0];
}

/**
 * Adds to the layers' gradients those of `lossScale` times the mean binary cross-entropy of predictorLogits(x) against the
 * labels. This needs no tape, since x gets no gradient. x [B, T, D], labels [B, T] 0 or 1 → the predictor's accuracy, the
 * fraction of tokens whose label equals (logit > 0), a scalar.
 */
export function accumulatePredictorGrad(
  x: Tensor,
  layers: PredictorLayers,
  labels: Tensor,
  lossScale: number,
): Tensor {
  const { fc1, fc1Bias, fc2, fc2Bias } = layers;
  const [before] = linearKernel({ x, weight: fc1.value }, { alpha: 1 });
  const [dbefore, dbias, dweight, dbias2, accuracy] = predictorLossGradKernel(
    { before, bias: fc1Bias.value, weight: fc2.value, bias2: fc2Bias.value, labels },
    { lossScale },
  );
  fc1.setGrad(linearGradWeightKernel({ dy: dbefore, x, gradAccum: fc1.grad ?? undefined }, { alpha: 1 })[0]);
  fc1Bias.addGrad(dbias);
  fc2.addGrad(dweight);
  fc2Bias.addGrad(dbias2);
  return accuracy;
}
