/** Every op's backward kernel against finite differences of its forward kernel along a random direction. */
import { add, mul, sum, type Tensor, tensor, tensor1d, tensor2d } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { balanceLoss } from '../../src/ops/balance-loss.js';
import { binaryCrossEntropyGrad } from '../../src/ops/binary-cross-entropy.js';
import { crossEntropy } from '../../src/ops/cross-entropy.js';
import { dispatchTokensKernel } from '../../src/ops/dispatch-tokens.js';
import { embedding } from '../../src/ops/embedding.js';
import { expertLogits } from '../../src/ops/expert-logits.js';
import { gatedScatterAdd } from '../../src/ops/gated-scatter-add.js';
import { GATE_NAMES } from '../../src/ops/gates.js';
import { gatherTokens } from '../../src/ops/gather-tokens.js';
import { groupedMlp } from '../../src/ops/grouped-mlp.js';
import { linear } from '../../src/ops/linear.js';
import { mlp } from '../../src/ops/mlp.js';
import { accumulatePredictorGrad, predictorLogits } from '../../src/ops/predictor-logits.js';
import { reshaped } from '../../src/ops/reshaped.js';
import { residual } from '../../src/ops/residual.js';
import { addRmsNorm, rmsNorm } from '../../src/ops/rms-norm.js';
import { rotaryTable } from '../../src/ops/rotary.js';
import { rotaryAttention } from '../../src/ops/rotary-attention.js';
import { routedGather } from '../../src/ops/routed-gather.js';
import { addRouterLogits, recordRouterLogits, routerLogits } from '../../src/ops/router-logits.js';
import { scope } from '../../src/ops/scope.js';
import { Parameter, Tape } from '../../src/ops/tape.js';
import { top1Expert } from '../../src/ops/top1-expert.js';
import { TEST_BACKENDS, useBackend } from '../support/backends.js';
import { randomTensor, randomValues } from '../support/numbers.js';

interface Case {
  op: string;
  /** Shapes of the differentiable inputs. */
  shapes: number[][];
  /** `tracked` are the inputs as tensors that the tape tracks, `parameters` the same inputs as parameters. */
  forward(tape: Tape, tracked: Tensor[], parameters: Parameter[]): Tensor[];
}

const indices = () => tensor2d([0, 3, 4, 1, 2, 5], [2, 3], 'int32');
/** The second sequence selects two of six tokens: 6 marks padding. */
const padded = () => tensor2d([0, 3, 4, 1, 5, 6], [2, 3], 'int32');

/** The binary cross-entropy of each element in nats, on the host, since no op computes it. */
function binaryCrossEntropies(logits: Tensor, labels: Tensor): Float32Array {
  const targets = labels.dataSync();
  const loss = (x: number, i: number) =>
    Math.max(x, 0) - x * (targets[i] as number) + Math.log1p(Math.exp(-Math.abs(x)));
  return Float32Array.from(logits.dataSync(), loss);
}

const CASES: Case[] = [
  {
    op: 'linear',
    shapes: [
      [2, 5, 3],
      [4, 3],
    ],
    forward: (t, [x], [, w]) => [linear(t, x as Tensor, w as Parameter)],
  },
  {
    op: 'linear, tall',
    shapes: [
      [7, 3],
      [2, 3],
    ],
    forward: (t, [x], [, w]) => [linear(t, x as Tensor, w as Parameter)],
  },
  {
    op: 'residual',
    shapes: [
      [2, 3],
      [2, 3],
    ],
    forward: (t, [x, y]) => [residual(t, x as Tensor, y as Tensor)],
  },
  {
    op: 'rms norm',
    shapes: [[2, 3, 5], [5]],
    forward: (t, [x], [, g]) => [rmsNorm(t, x as Tensor, g as Parameter)],
  },
  {
    op: 'residual and rms norm',
    shapes: [[2, 3, 5], [2, 3, 5], [5]],
    forward: (t, [x, y], [, , g]) => addRmsNorm(t, x as Tensor, y as Tensor, g as Parameter),
  },
  {
    op: 'mlp',
    shapes: [
      [2, 3, 4],
      [7, 4],
      [4, 7],
    ],
    forward: (t, [x], [, up, down]) => [mlp(t, x as Tensor, up as Parameter, down as Parameter)],
  },
  {
    op: 'rotary attention',
    shapes: [[2, 5, 36]],
    forward: (t, [x]) => [rotaryAttention(t, x as Tensor, rotaryTable(6, 4), null)[0]],
  },
  {
    op: 'rotary attention at positions',
    shapes: [[2, 3, 24]],
    forward: (t, [x]) => [rotaryAttention(t, x as Tensor, rotaryTable(7, 4), padded())[0]],
  },
  {
    op: 'embedding',
    shapes: [[5, 3]],
    forward: (t, _, [table]) => [
      embedding(t, table as Parameter, tensor2d([1, 4, 1, 0, 1, 2], [2, 3], 'int32')),
    ],
  },
  {
    op: 'cross entropy',
    shapes: [[4, 6]],
    forward: (t, [x]) => [crossEntropy(t, x as Tensor, tensor1d([0, 5, 2, 2], 'int32'))],
  },
  {
    op: 'binary cross entropy',
    shapes: [[2, 4]],
    // The op computes only the gradient; the losses are computed here.
    forward: (t, [x]) => {
      const [logits, labels] = [x as Tensor, tensor2d([0, 1, 1, 0, 0, 0, 1, 1], [2, 4])];
      const losses = tensor(binaryCrossEntropies(logits, labels), logits.shape);
      t.record([losses], [logits], [logits, labels], ([dlosses]) => [
        mul(dlosses as Tensor, binaryCrossEntropyGrad(logits, labels, logits.size)),
      ]);
      return [losses];
    },
  },
  {
    op: 'router logits',
    shapes: [
      [2, 3, 5],
      [1, 5],
    ],
    forward: (t, [x], [, w]) => {
      const r = routerLogits(x as Tensor, w as Parameter);
      recordRouterLogits(t, x as Tensor, r, w as Parameter);
      return [r];
    },
  },
  {
    op: 'residual and router logits',
    shapes: [
      [2, 3, 5],
      [2, 3, 5],
      [1, 5],
    ],
    forward: (t, [x, y], [, , w]) => {
      const [total, r] = addRouterLogits(t, x as Tensor, y as Tensor, w as Parameter);
      recordRouterLogits(t, total, r, w as Parameter);
      return [total, r];
    },
  },
  {
    op: 'gather tokens',
    shapes: [[2, 6, 4]],
    forward: (t, [x]) => [gatherTokens(t, x as Tensor, indices())],
  },
  {
    op: 'gather tokens, padded',
    shapes: [[2, 6, 4]],
    forward: (t, [x]) => [gatherTokens(t, x as Tensor, padded())],
  },
  ...GATE_NAMES.flatMap((gate) =>
    [indices, padded].map((at) => ({
      op: `gated scatter-add, ${gate}${at === padded ? ', padded' : ''}`,
      shapes: [
        [2, 6, 4],
        [2, 3, 4],
        [2, 6],
      ],
      forward: (t: Tape, [x, rows, r]: Tensor[]) => [
        gatedScatterAdd(t, x as Tensor, rows as Tensor, r as Tensor, at(), gate),
      ],
    })),
  ),
];

CASES.push(
  ...[indices, padded].map((at) => ({
    // Like two consecutive routed blocks: x gets gradients through the gathered rows and through the residual stream.
    op: `routed gather and scatter-add in place, twice${at === padded ? ', padded' : ''}`,
    shapes: [
      [2, 6, 5],
      [2, 3, 5],
      [1, 5],
    ],
    forward: (t: Tape, tracked: Tensor[], [, , w]: Parameter[]) => {
      const [start, rows] = tracked as [Tensor, Tensor];
      let x = residual(t, start, start);
      for (let block = 0; block < 2; block++) {
        const r = routerLogits(x, w as Parameter);
        const gathered = routedGather(t, x, r, w as Parameter, at());
        const branch = residual(
          t,
          rmsNorm(t, gathered, new Parameter('gain', tensor1d([1, 2, 3, 4, 5]))),
          rows,
        );
        x = gatedScatterAdd(t, x, branch, r, at(), 'sigmoid', true);
      }
      return [x];
    },
  })),
);

/** Logits far enough apart that a small step changes no choice. */
const spread = (logits: Tensor) => add(mul(logits, 0.05), randomTensor(logits.shape, 'spread'));

CASES.push(
  {
    op: 'reshaped',
    shapes: [[2, 3, 4]],
    forward: (t, [x]) => [reshaped(t, x as Tensor, [1, 6, 4])],
  },
  {
    op: 'expert logits',
    shapes: [
      [2, 3, 5],
      [4, 5],
    ],
    forward: (t, [x], [, w]) => [expertLogits(t, x as Tensor, w as Parameter)],
  },
  {
    op: 'top-1 expert',
    shapes: [[2, 5, 3]],
    forward: (t, [x]) => {
      const logits = spread(x as Tensor);
      t.record([logits], [x as Tensor], [], ([d]) => [mul(d, 0.05)]);
      return [top1Expert(t, logits).gate];
    },
  },
  ...[3, 4].map((balanced) => ({
    op: `balance loss of ${balanced} choices among 4`,
    shapes: [[2, 6, 4]],
    forward: (t: Tape, [x]: Tensor[]) => {
      const logits = spread(x as Tensor);
      t.record([logits], [x as Tensor], [], ([d]) => [mul(d, 0.05)]);
      const { probabilities, choice } = top1Expert(null, logits);
      const [, counts] = dispatchTokensKernel({ choice }, { experts: 3, choices: 4, slots: 2 });
      return [balanceLoss(t, logits, probabilities, counts, balanced)];
    },
  })),
  {
    op: 'grouped mlp',
    shapes: [
      [1, 6, 3],
      [10, 3],
      [6, 5],
    ],
    forward: (t, [x], [, up, down]) => [groupedMlp(t, x as Tensor, up as Parameter, down as Parameter, 2)],
  },
);

/** A parameter as a tensor that the tape tracks. */
function track(tape: Tape, parameter: Parameter): Tensor {
  const tensor = parameter.value.clone();
  tape.record([tensor], [parameter], [], ([d]) => [d as Tensor]);
  return tensor;
}

/** Σ weights∘outputs with weights that depend only on the op's name, in float64 on the host. */
function objective(outputs: Tensor[], op: string): number {
  return outputs.reduce((total, output, o) => {
    const values = output.dataSync() as Float32Array;
    const weights = randomValues(output.size, op, 'weights', o);
    return total + values.reduce((sum, value, i) => sum + value * (weights[i] as number), 0);
  }, 0);
}

describe.each(TEST_BACKENDS)('on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it.each(CASES)('the gradient of $op is the slope of its loss', ({ op, shapes, forward }) => {
    const start = shapes.map((shape, i) => randomTensor(shape, op, i));
    const direction = shapes.map((shape, i) => randomTensor(shape, op, 'direction', i));
    const at = (distance: number): number =>
      scope(() => {
        const tape = new Tape();
        const inputs = start.map((x, i) => add(x, mul(direction[i] as Tensor, distance)));
        const parameters = inputs.map((x, i) => new Parameter(String(i), x));
        const value = objective(
          forward(
            tape,
            parameters.map((p) => track(tape, p)),
            parameters,
          ),
          op,
        );
        tape.dispose();
        return value;
      });
    const slope = scope(() => {
      const tape = new Tape();
      const parameters = start.map((x, i) => new Parameter(String(i), x.clone()));
      const outputs = forward(
        tape,
        parameters.map((p) => track(tape, p)),
        parameters,
      );
      tape.backward(
        outputs.map((output, o) => ({
          output,
          gradient: randomTensor(output.shape, op, 'weights', o),
        })),
      );
      return parameters.reduce(
        (total, { grad }, i) =>
          total + (grad === null ? 0 : (sum(mul(grad, direction[i] as Tensor)).dataSync()[0] as number)),
        0,
      );
    });
    // Central differences of float32 values: rounding 1e-7/h and curvature h² are both below 1e-3 at h = 1e-2.
    const h = 1e-2;
    const measured = (at(h) - at(-h)) / (2 * h);
    expect(Math.abs(measured - slope)).toBeLessThan(3e-3 * Math.max(1, Math.abs(slope)));
  });
});

describe.each(TEST_BACKENDS)('accumulatePredictorGrad on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it('adds the gradient of the binary cross-entropy and returns the accuracy', () => {
    const x = randomTensor([2, 3, 4], 'x');
    const labels = tensor2d([0, 1, 1, 0, 0, 1], [2, 3]);
    const start = [[7, 4], [7], [1, 7], [1]].map((shape, i) => randomTensor(shape, 'layer', i));
    const direction = start.map(({ shape }, i) => randomTensor(shape, 'direction', i));
    const layersOf = (distance: number) => {
      const values = start.map((value, i) => add(value, mul(direction[i] as Tensor, distance)) as Tensor);
      const [fc1, fc1Bias, fc2, fc2Bias] = values.map((value, i) => new Parameter(String(i), value));
      return { fc1, fc1Bias, fc2, fc2Bias } as Record<'fc1' | 'fc1Bias' | 'fc2' | 'fc2Bias', Parameter>;
    };
    const loss = (distance: number) => {
      const logits = predictorLogits(x, layersOf(distance));
      return binaryCrossEntropies(logits, labels).reduce((total, each) => total + each, 0) / labels.size;
    };
    const lossScale = 0.7;
    const layers = layersOf(0);
    const accuracy = accumulatePredictorGrad(x, layers, labels, lossScale).dataSync()[0];
    const along = () =>
      Object.values(layers).reduce(
        (total, { grad }, i) =>
          total + (sum(mul(grad as Tensor, direction[i] as Tensor)).dataSync()[0] as number),
        0,
      );
    const h = 1e-2;
    const slope = (lossScale * (loss(h) - loss(-h))) / (2 * h);
    expect(Math.abs(along() - slope)).toBeLessThan(3e-3 * Math.max(1, Math.abs(slope)));
    const once = along();
    accumulatePredictorGrad(x, layers, labels, lossScale);
    expect(Math.abs(along() - 2 * once)).toBeLessThan(1e-5 * Math.abs(once));
    const signs = predictorLogits(x, layers).dataSync();
    const correct = labels.dataSync().filter((label, i) => ((signs[i] as number) > 0 ? 1 : 0) === label);
    expect(accuracy).toBeCloseTo(correct.length / labels.size, 6);
    for (const layer of Object.values(layers)) layer.clearGrad();
  });
});
