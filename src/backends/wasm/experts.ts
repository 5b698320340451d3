/** Mixture of experts on wasm: one product for each expert, token dispatch in one pass, softmax in a loop. */
import { slice, type Tensor } from '@tensorflow/tfjs-core';
import { balanceLossGradKernel, balanceLossKernel } from '../../ops/balance-loss.js';
import { dispatchTokensKernel } from '../../ops/dispatch-tokens.js';
import { expertLogitsGradKernel, expertLogitsKernel } from '../../ops/expert-logits.js';
import {
  groupedLinearGradInputKernel,
  groupedLinearGradWeightKernel,
  groupedLinearKernel,
} from '../../ops/grouped-linear.js';
import { scope } from '../../ops/scope.js';
import { top1ExpertGradKernel, top1ExpertKernel } from '../../ops/top1-expert.js';
import { exponential } from './exponential.js';
import { type Heap, wasmKernel } from './heap.js';
import { addInto, gradInput, gradWeight, matrix, multiplied, scaled } from './linear.js';

const expertLogits = wasmKernel(expertLogitsKernel, (heap, { x, weight }) => [multiplied(heap, x, weight)]);

const expertLogitsGrad = wasmKernel(expertLogitsGradKernel, (heap, { dlogits, x, weight, gradAccum }) =>
  scope(() => {
    const dx = gradInput(dlogits, weight);
    const dweight = gradWeight(heap, matrix(dlogits), matrix(x));
    return [gradAccum === undefined ? dx : addInto(heap, gradAccum, dx), dweight];
  }),
);

const groupedLinear = wasmKernel(groupedLinearKernel, (heap, { x, weight }, { experts, alpha }) =>
  forEachExpert(
    heap,
    [matrix(x), weight],
    experts,
    [...x.shape.slice(0, -1), rowsPerExpert(weight, experts)],
    (parts) => scaled(heap, multiplied(heap, ...(parts as [Tensor, Tensor])), alpha),
  ),
);

const groupedLinearGradInput = wasmKernel(
  groupedLinearGradInputKernel,
  (heap, { dy, weight }, { experts, alpha }) =>
    forEachExpert(
      heap,
      [matrix(dy), weight],
      experts,
      [...dy.shape.slice(0, -1), weight.shape[1] as number],
      (parts) => scaled(heap, gradInput(...(parts as [Tensor, Tensor])), alpha),
    ),
);

const groupedLinearGradWeight = wasmKernel(
  groupedLinearGradWeightKernel,
  (heap, { dy, x, gradAccum }, { experts, alpha }) => {
    const [ofDy, ofX] = [matrix(dy), matrix(x)];
    const shape = [experts * (ofDy.shape[1] as number), ofX.shape[1] as number];
    const [gradient] = forEachExpert(heap, [ofDy, ofX], experts, shape, (parts) =>
      scaled(heap, gradWeight(heap, ...(parts as [Tensor, Tensor])), alpha),
    );
    return [gradAccum === undefined ? gradient : addInto(heap, gradAccum, gradient)];
  },
);

const top1Expert = wasmKernel(top1ExpertKernel, (heap, { logits }) => {
  const shape = logits.shape.slice(0, -1);
  const choices = logits.shape[logits.rank - 1] as number;
  const [probabilities, gate] = [heap.make(logits.shape), heap.make(shape)];
  const choice = heap.make(shape, 'int32');
  const [x, p, gates, chosen] = [
    heap.floats(logits),
    heap.floats(probabilities),
    heap.floats(gate),
    heap.ints(choice),
  ];
  for (let token = 0; token < gates.length; token++) {
    const first = token * choices;
    let best = 0;
    for (let i = 1; i < choices; i++) {
      if ((x[first + i] as number) > (x[first + best] as number)) best = i;
    }
    let total = 0;
    for (let i = 0; i < choices; i++) {
      const weight = exponential((x[first + i] as number) - (x[first + best] as number));
      p[first + i] = weight;
      total += weight;
    }
    for (let i = 0; i < choices; i++) p[first + i] = (p[first + i] as number) / total;
    gates[token] = p[first + best] as number;
    chosen[token] = best;
  }
  return [probabilities, gate, choice];
});

const top1ExpertGrad = wasmKernel(top1ExpertGradKernel, (heap, { probabilities, choice, dgate }) => {
  const dlogits = heap.make(probabilities.shape);
  const choices = probabilities.shape[probabilities.rank - 1] as number;
  const [p, chosen, d, to] = [
    heap.floats(probabilities),
    heap.ints(choice),
    heap.floats(dgate),
    heap.floats(dlogits),
  ];
  for (let token = 0; token < d.length; token++) {
    const [first, own] = [token * choices, chosen[token] as number];
    const scale = (d[token] as number) * (p[first + own] as number);
    for (let i = 0; i < choices; i++) {
      to[first + i] = scale * ((i === own ? 1 : 0) - (p[first + i] as number));
    }
  }
  return [dlogits];
});

const dispatchTokens = wasmKernel(dispatchTokensKernel, (heap, { choice }, { experts, choices, slots }) => {
  const [batch, n] = choice.shape as [number, number];
  const indices = heap.make([1, experts * batch * slots], 'int32');
  const counts = heap.make([choices + experts, batch]);
  const [chosen, to, numbers] = [heap.ints(choice), heap.ints(indices), heap.floats(counts)];
  to.fill(batch * n);
  numbers.fill(0);
  for (let token = 0; token < batch * n; token++) {
    const [sequence, expert] = [Math.floor(token / n), chosen[token] as number];
    const at = expert * batch + sequence;
    const rank = numbers[at] as number;
    numbers[at] = rank + 1;
    if (expert < experts && rank < slots) to[at * slots + rank] = token;
  }
  for (let i = 0; i < experts * batch; i++) {
    numbers[choices * batch + i] = Math.min(numbers[i] as number, slots);
  }
  return [indices, counts];
});

const balanceLoss = wasmKernel(balanceLossKernel, (heap, { probabilities, counts }, { balanced }) => {
  const [batch, n, choices] = probabilities.shape as [number, number, number];
  const [losses, sums] = [heap.make([batch]), heap.make([batch, balanced])];
  const [p, c] = [heap.floats(probabilities), heap.floats(counts)];
  const [loss, to] = [heap.floats(losses), heap.floats(sums)];
  for (let b = 0; b < batch; b++) {
    let [total, chosen, along] = [0, 0, 0];
    for (let i = 0; i < balanced; i++) {
      let mass = 0;
      for (let t = 0; t < n; t++) mass += p[(b * n + t) * choices + i] as number;
      to[b * balanced + i] = mass;
      total += mass;
      chosen += c[i * batch + b] as number;
      along += mass * (c[i * batch + b] as number);
    }
    loss[b] = (balanced * along) / (total * Math.max(1, chosen));
  }
  return [losses, sums];
});

const balanceLossGrad = wasmKernel(
  balanceLossGradKernel,
  (heap, { probabilities, counts, sums, dlosses }, { balanced }) => {
    const [batch, n, choices] = probabilities.shape as [number, number, number];
    const dlogits = heap.make(probabilities.shape);
    const [p, c, s] = [heap.floats(probabilities), heap.floats(counts), heap.floats(sums)];
    const [d, to] = [heap.floats(dlosses), heap.floats(dlogits)];
    const g = new Float64Array(choices);
    for (let b = 0; b < batch; b++) {
      let [total, chosen, along] = [0, 0, 0];
      for (let i = 0; i < balanced; i++) {
        const [mass, count] = [s[b * balanced + i] as number, c[i * batch + b] as number];
        total += mass;
        chosen += count;
        along += mass * count;
      }
      chosen = Math.max(1, chosen);
      for (let i = 0; i < balanced; i++) {
        const fraction = (c[i * batch + b] as number) / chosen;
        g[i] = ((d[b] as number) * balanced * (fraction - along / chosen / total)) / total;
      }
      for (let first = b * n * choices; first < (b + 1) * n * choices; first += choices) {
        let mean = 0;
        for (let i = 0; i < choices; i++) mean += (p[first + i] as number) * (g[i] as number);
        for (let i = 0; i < choices; i++)
          to[first + i] = (p[first + i] as number) * ((g[i] as number) - mean);
      }
    }
    return [dlogits];
  },
);

/** Rows of one expert in a matrix of all experts. */
const rowsPerExpert = (x: Tensor, experts: number) => x.shape[0] / experts;

/** The concatenated results of `compute` on the rows of each expert, as a tensor of `shape`. */
function forEachExpert(
  heap: Heap,
  tensors: Tensor[],
  experts: number,
  shape: number[],
  compute: (parts: Tensor[]) => Tensor,
): [Tensor] {
  return scope((): [Tensor] => {
    const result = heap.make(shape);
    const size = result.size / experts;
    for (let expert = 0; expert < experts; expert++) {
      scope(() => {
        const parts = tensors.map((x) => {
          const rows = rowsPerExpert(x, experts);
          return slice(x, [expert * rows, 0], [rows, x.shape[1] as number]);
        });
        const part = compute(parts);
        heap.floats(result).set(heap.floats(part), expert * size);
      });
    }
    return [result];
  });
}

export const expertKernels = [
  expertLogits,
  expertLogitsGrad,
  groupedLinear,
  groupedLinearGradInput,
  groupedLinearGradWeight,
  top1Expert,
  top1ExpertGrad,
  dispatchTokens,
  balanceLoss,
  balanceLossGrad,
];
