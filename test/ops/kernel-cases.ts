/** Random inputs of given sizes for every kernel of src/ops, on which backends are compared with composed definitions. */
import { mul, type Tensor, tensor } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { expect } from 'vitest';
import { adamWKernel, adamWStepKernel } from '../../src/ops/adamw.js';
import { balanceLossGradKernel, balanceLossKernel } from '../../src/ops/balance-loss.js';
import { biasGradKernel, biasKernel } from '../../src/ops/bias.js';
import { binaryCrossEntropyGradKernel } from '../../src/ops/binary-cross-entropy.js';
import {
  causalAttentionGradKernel,
  causalAttentionKernel,
  varlenAttentionKernel,
} from '../../src/ops/causal-attention.js';
import { crossEntropyGradKernel, crossEntropyKernel } from '../../src/ops/cross-entropy.js';
import { decodeAttentionKernel } from '../../src/ops/decode-attention.js';
import { dispatchTokensKernel } from '../../src/ops/dispatch-tokens.js';
import { embeddingGradKernel, embeddingKernel } from '../../src/ops/embedding.js';
import { entropyKernel } from '../../src/ops/entropy.js';
import { expertLogitsGradKernel, expertLogitsKernel } from '../../src/ops/expert-logits.js';
import { gatedScatterAddGradKernel, gatedScatterAddKernel } from '../../src/ops/gated-scatter-add.js';
import { GATE_NAMES } from '../../src/ops/gates.js';
import { gatherTokensKernel, scatterTokensKernel } from '../../src/ops/gather-tokens.js';
import { geluGradKernel, geluKernel } from '../../src/ops/gelu.js';
import { globalNormKernel } from '../../src/ops/global-norm.js';
import {
  groupedLinearGradInputKernel,
  groupedLinearGradWeightKernel,
  groupedLinearKernel,
} from '../../src/ops/grouped-linear.js';
import { groupedLinearGeluKernel, groupedLinearGradInputGeluKernel } from '../../src/ops/grouped-mlp.js';
import type { Kernel, KernelInputs } from '../../src/ops/kernel.js';
import { linearGradInputKernel, linearGradWeightKernel, linearKernel } from '../../src/ops/linear.js';
import { linearGeluKernel, linearGradInputGeluKernel } from '../../src/ops/mlp.js';
import { normalDrawsKernel } from '../../src/ops/normal-draws.js';
import { predictorLogitsKernel, predictorLossGradKernel } from '../../src/ops/predictor-logits.js';
import { prefillCacheKernel } from '../../src/ops/prefill-cache.js';
import { residualKernel } from '../../src/ops/residual.js';
import { addRmsNormKernel, rmsNormGradKernel, rmsNormKernel } from '../../src/ops/rms-norm.js';
import { rotaryGradKernel, rotaryKernel, rotaryTable } from '../../src/ops/rotary.js';
import { rotaryAttentionGradKernel, rotaryAttentionKernel } from '../../src/ops/rotary-attention.js';
import { routedGatherGradKernel } from '../../src/ops/routed-gather.js';
import {
  addRouterLogitsKernel,
  routerLogitsGradKernel,
  routerLogitsKernel,
} from '../../src/ops/router-logits.js';
import { routedThresholdKernel, runningQuantileKernel } from '../../src/ops/running-quantile.js';
import { scope } from '../../src/ops/scope.js';
import { selectTopKKernel } from '../../src/ops/select-top-k.js';
import { top1ExpertGradKernel, top1ExpertKernel } from '../../src/ops/top1-expert.js';
import { useBackend } from '../support/backends.js';
import { randomTensor, randomValues, relativeError } from '../support/numbers.js';

/** Sizes of a random case: B sequences of T tokens, H heads of size K, vocabulary V, k selected tokens. */
export interface Sizes {
  B: number;
  T: number;
  H: number;
  K: number;
  V: number;
  k: number;
  seed: number;
}

export const sizes = fc
  .record({
    B: fc.integer({ min: 1, max: 3 }),
    T: fc.integer({ min: 1, max: 19 }),
    H: fc.integer({ min: 1, max: 3 }),
    K: fc.integer({ min: 1, max: 5 }).map((half) => 2 * half),
    V: fc.integer({ min: 2, max: 40 }),
    capacity: fc.double({ min: 0.01, max: 1, noNaN: true }),
    seed: fc.nat(),
  })
  .map(({ capacity, ...rest }): Sizes => ({ ...rest, k: Math.max(1, Math.round(capacity * rest.T)) }));

const integers = (count: number, below: number, seed: number) =>
  Int32Array.from(randomValues(count, seed, 'integers'), (x) => Math.abs(Math.floor(x * 1e4)) % below);

/** Ascending positions; every other sequence ends with padding, which is T. */
function selection({ B, T, k, seed }: Sizes): Tensor {
  const rows = Array.from({ length: B }, (_, b) => {
    const order = [...randomValues(T, seed, 'order', b)].map((value, t) => [value, t] as const);
    const chosen = order.sort((a, c) => a[0] - c[0]).slice(0, b % 2 === 0 ? k : Math.ceil(k / 2));
    const positions = chosen.map(([, t]) => t).sort((a, c) => a - c);
    return [...positions, ...Array<number>(k - positions.length).fill(T)];
  });
  return tensor(rows, [B, k], 'int32');
}

export interface KernelCase {
  kernel: Kernel<KernelInputs, object, Tensor[]>;
  inputs(s: Sizes, random: (...shape: number[]) => Tensor): KernelInputs;
  attrs?(s: Sizes): object;
}

/** A case, whose types are checked against the kernel's and then erased. */
function caseOf<I extends KernelInputs, A extends object, O extends Tensor[]>(
  kernel: Kernel<I, A, O>,
  inputs: (s: Sizes, random: (...shape: number[]) => Tensor) => I,
  attrs: (s: Sizes) => A = () => ({}) as A,
): KernelCase {
  return { kernel: kernel as unknown as KernelCase['kernel'], inputs, attrs };
}

/** Factors of products: 1 and others. */
const alphaOf = ({ seed }: Sizes) => ({ alpha: seed % 3 === 0 ? 1 : 0.25 + (seed % 5) });

/** Rotary angles of k tokens per sequence. */
const angles = (s: Sizes) => ({
  table: rotaryTable(s.T + 1, s.K),
  positions: sometimes(s, selection(s)),
});

const sometimes = (s: Sizes, value: Tensor): Tensor | undefined => (s.seed % 2 === 0 ? value : undefined);

function adamWInputs(name: string, random: (...shape: number[]) => Tensor, shape: number[]) {
  const size = shape.reduce((product, side) => product * side, 1);
  return {
    [`value.${name}`]: random(...shape),
    [`grad.${name}`]: random(...shape),
    [`mean.${name}`]: random(...shape),
    [`variance.${name}`]: tensor(randomValues(size, 'variance', name).map(Math.abs), shape),
  };
}

/** Probabilities and counts of H balanced choices and `others` more. */
function balanceInputs({ B, T, H, seed }: Sizes, random: (...shape: number[]) => Tensor, others: number) {
  const [probabilities, , choice] = top1ExpertKernel.composed({ logits: random(B, T, H + others) }, {});
  const attrs = { experts: H, choices: H + others, slots: 1 + (seed % T) };
  return { probabilities, counts: dispatchTokensKernel.composed({ choice }, attrs)[1] };
}

export const KERNEL_CASES: KernelCase[] = [
  caseOf(linearKernel, ({ B, T, K, V }, r) => ({ x: r(B, T, K), weight: r(V, K) }), alphaOf),
  caseOf(linearGradInputKernel, ({ B, T, K, V }, r) => ({ dy: r(B, T, V), weight: r(V, K) }), alphaOf),
  caseOf(
    linearGradWeightKernel,
    (s, r) => ({
      dy: r(s.B, s.T, s.V),
      x: r(s.B, s.T, s.K),
      gradAccum: sometimes(s, r(s.V, s.K)),
    }),
    alphaOf,
  ),
  // Widths that are a multiple of 8 and others: gelu may be fused with the product or not.
  caseOf(linearGeluKernel, ({ B, T, K, V }, r) => ({ x: r(B, T, K), weight: r(V, K) })),
  caseOf(linearGeluKernel, ({ B, T, K, V }, r) => ({
    x: r(B, T, 8 * K),
    weight: r(8 * (1 + (V % 9)), 8 * K),
  })),
  caseOf(
    linearGradInputGeluKernel,
    ({ B, T, K, V }, r) => ({
      dy: r(B, T, V),
      weight: r(V, K),
      before: r(B, T, K),
    }),
    alphaOf,
  ),
  caseOf(
    linearGradInputGeluKernel,
    ({ B, T, K }, r) => ({
      dy: r(B, T, 24),
      weight: r(24, 8 * K),
      before: r(B, T, 8 * K),
    }),
    alphaOf,
  ),
  caseOf(biasKernel, ({ B, T, K }, r) => ({ x: r(B, T, K), bias: r(K) })),
  caseOf(
    biasGradKernel,
    ({ B, T, K }, r) => ({ dy: r(B, T, K) }),
    ({ K, seed }) => ({ width: seed % 2 === 0 ? K : 1 }),
  ),

  caseOf(residualKernel, ({ B, T, K }, r) => ({ x: r(B, T, K), y: r(B, T, K) })),
  caseOf(rmsNormKernel, ({ B, T, K }, r) => ({ x: r(B, T, K), gain: r(K) })),
  caseOf(addRmsNormKernel, ({ B, T, K }, r) => ({ x: r(B, T, K), branch: r(B, T, K), gain: r(K) })),
  caseOf(rmsNormGradKernel, (s, r) => {
    const [x, gain] = [r(s.B, s.T, s.K), r(s.K)];
    const [, inverseRms] = rmsNormKernel.composed({ x, gain }, {});
    return { dy: r(s.B, s.T, s.K), x, gain, inverseRms, gradAccum: sometimes(s, r(s.B, s.T, s.K)) };
  }),
  caseOf(geluKernel, ({ B, T }, r) => ({ x: r(B, T) })),
  caseOf(geluGradKernel, ({ B, T }, r) => ({ dy: r(B, T), x: r(B, T) })),
  caseOf(rotaryKernel, (s, r) => ({ qkv: r(s.B, s.k, 3 * s.H * s.K), ...angles(s) })),
  caseOf(rotaryGradKernel, (s, r) => ({ dqkv: r(s.B, s.k, 3 * s.H * s.K), ...angles(s) })),
  caseOf(
    causalAttentionKernel,
    ({ B, T, H, K }, r) => ({ qkv: r(B, T, 3 * H * K) }),
    ({ H }) => ({ heads: H }),
  ),
  caseOf(
    causalAttentionGradKernel,
    ({ B, T, H, K }, r) => {
      const qkv = r(B, T, 3 * H * K);
      const [out, logSumExp] = causalAttentionKernel.composed({ qkv }, { heads: H });
      return { qkv, out, logSumExp, dout: r(B, T, H * K) };
    },
    ({ H }) => ({ heads: H }),
  ),
  caseOf(
    rotaryAttentionKernel,
    (s, r) => ({ qkv: r(s.B, s.k, 3 * s.H * s.K), ...angles(s) }),
    ({ H }) => ({ heads: H }),
  ),
  caseOf(
    rotaryAttentionGradKernel,
    (s, r) => {
      const qkv = r(s.B, s.k, 3 * s.H * s.K);
      const [out, logSumExp] = causalAttentionKernel.composed({ qkv }, { heads: s.H });
      return { qkv, out, logSumExp, dout: r(s.B, s.k, s.H * s.K), ...angles(s) };
    },
    ({ H }) => ({ heads: H }),
  ),
  caseOf(
    varlenAttentionKernel,
    (s, r) => ({ qkv: r(1, s.T + s.k, 3 * s.H * s.K) }),
    (s) => ({ heads: s.H, lengths: [s.T, 0, s.k] }),
  ),
  caseOf(
    decodeAttentionKernel,
    (s, r) => ({
      qkv: r(1, s.B, 3 * s.H * s.K),
      cache: r(s.B + 1, s.T, 2 * s.H * s.K),
      rows: tensor(
        Array.from({ length: s.B }, (_, i) => s.B - i),
        [s.B],
        'int32',
      ),
      lengths: tensor(integers(s.B, s.T, s.seed), [s.B], 'int32'),
    }),
    ({ H }) => ({ heads: H }),
  ),
  caseOf(
    prefillCacheKernel,
    (s, r) => ({ qkv: r(1, s.T + s.k, 3 * s.H * s.K) }),
    (s) => ({ lengths: [s.T, 0, s.k], slots: s.T + 2 }),
  ),
  caseOf(entropyKernel, ({ B, T, V }, r) => ({ logits: r(B, T, V) })),
  caseOf(embeddingKernel, ({ B, T, K, V, seed }, r) => ({
    table: r(V, K),
    tokens: tensor(integers(B * T, V, seed), [B, T], 'int32'),
  })),
  caseOf(
    embeddingGradKernel,
    (s, r) => ({
      dy: r(s.B, s.T, s.K),
      tokens: tensor(integers(s.B * s.T, s.V, s.seed), [s.B, s.T], 'int32'),
      gradAccum: sometimes(s, r(s.V, s.K)),
    }),
    ({ V }) => ({ vocabSize: V }),
  ),
  // Two different tokens: each has many rows.
  caseOf(
    embeddingGradKernel,
    (s, r) => ({
      dy: r(s.B, s.T, s.K),
      tokens: tensor(integers(s.B * s.T, 2, s.seed), [s.B, s.T], 'int32'),
      gradAccum: sometimes(s, r(s.V, s.K)),
    }),
    ({ V }) => ({ vocabSize: V }),
  ),
  caseOf(crossEntropyKernel, ({ B, T, V, seed }, r) => ({
    logits: r(B, T, V),
    targets: tensor(integers(B * T, V, seed), [B, T], 'int32'),
  })),
  caseOf(crossEntropyGradKernel, ({ B, T, V, seed }, r) => {
    const [logits, targets] = [r(B, T, V), tensor(integers(B * T, V, seed), [B, T], 'int32')];
    const [, logSumExp] = crossEntropyKernel.composed({ logits, targets }, {});
    return { logits, targets, logSumExp, dlosses: r(B, T) };
  }),
  caseOf(
    binaryCrossEntropyGradKernel,
    ({ B, T, seed }, r) => ({
      logits: r(B, T),
      labels: tensor(Float32Array.from(integers(B * T, 2, seed)), [B, T]),
    }),
    ({ B, T }) => ({ weight: 0.5 * B * T }),
  ),
  caseOf(routerLogitsKernel, ({ B, T, K }, r) => ({ x: r(B, T, K), weight: r(1, K) })),
  caseOf(addRouterLogitsKernel, ({ B, T, K }, r) => ({
    x: r(B, T, K),
    branch: r(B, T, K),
    weight: r(1, K),
  })),
  caseOf(routerLogitsGradKernel, (s, r) => ({
    dr: r(s.B, s.T),
    x: r(s.B, s.T, s.K),
    weight: r(1, s.K),
    gradAccum: sometimes(s, r(s.B, s.T, s.K)),
  })),
  // Sparse, like the gate's gradient: 0 for most tokens.
  caseOf(routerLogitsGradKernel, (s, r) => ({
    dr: tensor(
      randomValues(s.B * s.T, s.seed, 'sparse').map((value, i) => (i % 4 === s.seed % 4 ? value : 0)),
      [s.B, s.T],
    ),
    x: r(s.B, s.T, s.K),
    weight: r(1, s.K),
    gradAccum: sometimes(s, r(s.B, s.T, s.K)),
  })),
  // Hidden sizes that are a multiple of 8 and others.
  ...[1, 8].flatMap((multiple) => [
    caseOf(predictorLogitsKernel, ({ B, T, K }, r) => ({
      before: r(B, T, multiple * K),
      bias: r(multiple * K),
      weight: r(1, multiple * K),
      bias2: r(1),
    })),
    caseOf(
      predictorLossGradKernel,
      ({ B, T, K, seed }, r) => ({
        before: r(B, T, multiple * K),
        bias: r(multiple * K),
        // Logits of order 1: the slope of large ones would be rounding error only.
        weight: mul(r(1, multiple * K), 1 / Math.sqrt(multiple * K)) as Tensor,
        bias2: r(1),
        labels: tensor(Float32Array.from(integers(B * T, 2, seed)), [B, T]),
      }),
      () => ({ lossScale: 3 }),
    ),
  ]),
  caseOf(
    selectTopKKernel,
    ({ B, T }, r) => ({ r: r(B, T) }),
    ({ k }) => ({ k }),
  ),
  caseOf(
    selectTopKKernel,
    // Few different values, so most are ties.
    ({ B, T, seed }) => ({ r: tensor(Float32Array.from(integers(B * T, 3, seed)), [B, T]) }),
    ({ k }) => ({ k }),
  ),
  caseOf(
    normalDrawsKernel,
    ({ seed }) => ({
      key: tensor(Int32Array.of(seed, ~seed), [2], 'int32'),
      first: tensor([seed], [1], 'int32'),
    }),
    ({ B, T }) => ({ sequences: B, length: T }),
  ),
  caseOf(gatherTokensKernel, (s, r) => ({ x: r(s.B, s.T, s.K), indices: selection(s) })),
  caseOf(
    scatterTokensKernel,
    (s, r) => ({ rows: r(s.B, s.k, s.K), indices: selection(s), gradAccum: sometimes(s, r(s.B, s.T, s.K)) }),
    ({ T }) => ({ length: T }),
  ),
  // Widths that are a multiple of 8 and others.
  ...[1, 8].map((multiple) =>
    caseOf(routedGatherGradKernel, (s, r) => ({
      dr: r(s.B, s.T),
      drows: r(s.B, s.k, multiple * s.K),
      rows: r(s.B, s.k, multiple * s.K),
      indices: selection(s),
      weight: r(1, multiple * s.K),
      gradAccum: sometimes(s, r(s.B, s.T, multiple * s.K)),
    })),
  ),
  ...GATE_NAMES.flatMap((gate) => [
    caseOf(
      gatedScatterAddKernel,
      (s, r) => ({ x: r(s.B, s.T, s.K), rows: r(s.B, s.k, s.K), r: r(s.B, s.T), indices: selection(s) }),
      ({ seed }) => ({ gate, inPlace: seed % 2 === 0 }),
    ),
    caseOf(
      gatedScatterAddGradKernel,
      (s, r) => ({ dout: r(s.B, s.T, s.K), rows: r(s.B, s.k, s.K), r: r(s.B, s.T), indices: selection(s) }),
      () => ({ gate }),
    ),
  ]),
  // V choices, of which H are experts.
  caseOf(expertLogitsKernel, ({ B, T, K, V }, r) => ({ x: r(B, T, K), weight: r(V, K) })),
  caseOf(expertLogitsGradKernel, (s, r) => ({
    dlogits: r(s.B, s.T, s.V),
    x: r(s.B, s.T, s.K),
    weight: r(s.V, s.K),
    gradAccum: sometimes(s, r(s.B, s.T, s.K)),
  })),
  caseOf(top1ExpertKernel, ({ B, T, V }, r) => ({ logits: r(B, T, V) })),
  caseOf(top1ExpertKernel, ({ B, T, V, seed }) => ({
    // Few different values: ties go to the lower choice.
    logits: tensor(Float32Array.from(integers(B * T * V, 3, seed)), [B, T, V]),
  })),
  caseOf(top1ExpertGradKernel, ({ B, T, V }, r) => {
    const [probabilities, , choice] = top1ExpertKernel.composed({ logits: r(B, T, V) }, {});
    return { probabilities, choice, dgate: r(B, T) };
  }),
  ...[0, 2].map((noOps) =>
    caseOf(
      dispatchTokensKernel,
      ({ B, T, H, seed }) => ({
        choice: tensor(integers(B * T, H + noOps, seed), [B, T], 'int32'),
      }),
      ({ H, k }) => ({ experts: H, choices: H + noOps, slots: k }),
    ),
  ),
  ...[0, 1].flatMap((others) => [
    caseOf(
      balanceLossKernel,
      (s, r) => balanceInputs(s, r, others),
      ({ H }) => ({ balanced: H }),
    ),
    caseOf(
      balanceLossGradKernel,
      (s, r) => {
        const inputs = balanceInputs(s, r, others);
        const [, sums] = balanceLossKernel.composed(inputs, { balanced: s.H });
        return { ...inputs, sums, dlosses: r(s.B) };
      },
      ({ H }) => ({ balanced: H }),
    ),
  ]),
  caseOf(
    groupedLinearKernel,
    ({ B, T, H, K, V }, r) => ({ x: r(1, H * B * T, K), weight: r(H * V, K) }),
    (s) => ({ experts: s.H, ...alphaOf(s) }),
  ),
  caseOf(
    groupedLinearGeluKernel,
    ({ B, T, H, K, V }, r) => ({ x: r(1, H * B * T, K), weight: r(H * V, K) }),
    (s) => ({ experts: s.H, ...alphaOf(s) }),
  ),
  caseOf(
    groupedLinearGradInputGeluKernel,
    ({ B, T, H, K, V }, r) => ({
      dy: r(1, H * B * T, V),
      weight: r(H * V, K),
      before: r(1, H * B * T, K),
    }),
    (s) => ({ experts: s.H, ...alphaOf(s) }),
  ),
  caseOf(
    groupedLinearGradInputKernel,
    ({ B, T, H, K, V }, r) => ({ dy: r(1, H * B * T, V), weight: r(H * V, K) }),
    (s) => ({ experts: s.H, ...alphaOf(s) }),
  ),
  caseOf(
    groupedLinearGradWeightKernel,
    (s, r) => ({
      dy: r(1, s.H * s.B * s.T, s.V),
      x: r(1, s.H * s.B * s.T, s.K),
      gradAccum: sometimes(s, r(s.H * s.V, s.K)),
    }),
    (s) => ({ experts: s.H, ...alphaOf(s) }),
  ),
  caseOf(globalNormKernel, ({ B, T, K }, r) => ({ a: r(B, T), b: r(K) })),
  caseOf(
    adamWKernel,
    ({ T, K }, r) => ({
      value: r(T, K),
      grad: r(T, K),
      mean: r(T, K),
      variance: tensor(randomValues(T * K, 'variance', T).map(Math.abs), [T, K]),
      norm: tensor(3),
      schedule: tensor([0.01, 0.1, 0.05]),
    }),
    ({ seed }) => ({
      beta1: 0.9,
      beta2: 0.95,
      epsilon: 1e-8,
      weightDecay: seed % 3 === 0 ? 0 : 0.1,
      rateFactor: seed % 2 === 0 ? 1 : 0.25,
      maxNorm: seed % 5 === 0 ? 0 : 1,
    }),
  ),
  caseOf(
    adamWStepKernel,
    ({ T, K, V }, r) => ({
      ...adamWInputs('0', r, [T, K]),
      ...adamWInputs('1', r, [K]),
      ...adamWInputs('2', r, [V, K]),
      norm: tensor(3),
      schedule: tensor([0.01, 0.1, 0.05]),
    }),
    ({ seed }) => ({
      beta1: 0.9,
      beta2: 0.95,
      epsilon: 1e-8,
      weightDecays: [0.1, 0, 0.1],
      rateFactors: [0.5, 1, 2],
      maxNorm: seed % 5 === 0 ? 0 : 1,
    }),
  ),
  caseOf(
    routedThresholdKernel,
    ({ B, T, k }, r) => {
      const weights = r(B, T + 1); // of k + 1 tokens or more: of k alone the threshold is -infinity
      const [, mask] = selectTopKKernel({ r: weights }, { k });
      return { r: weights, mask, thresholds: r(3, B + 2) };
    },
    ({ seed }) => ({ block: seed % 3, first: seed % 2 }),
  ),
  caseOf(
    runningQuantileKernel,
    ({ T, H, seed }, r) => ({
      thresholds: r(H, T),
      norm: tensor(seed % 3 === 0 ? Number.NaN : 3),
      state: r(H + 1),
    }),
    () => ({ decay: 0.99 }),
  ),
];

export interface Output {
  shape: number[];
  dtype: string;
  values: ArrayLike<number>;
}

/** The values of an input or output, to pass it from one backend to another. */
interface Values {
  shape: number[];
  dtype: 'float32' | 'int32' | 'bool';
  values: Float32Array | Int32Array;
}

const read = (tensor: Tensor) => ({ shape: tensor.shape, dtype: tensor.dtype, values: tensor.dataSync() });

/** The inputs of a case, made on the cpu backend. */
type GivenInputs = (readonly [name: string, values: Values])[];

export async function inputsOf({ inputs }: KernelCase, s: Sizes): Promise<GivenInputs> {
  await useBackend('cpu');
  let made = 0;
  const random = (...shape: number[]) => randomTensor(shape, s.seed, made++);
  return scope(() =>
    Object.entries(inputs(s, random)).flatMap(([name, input]) =>
      input === undefined ? [] : [[name, read(input) as Values] as const],
    ),
  );
}

/** A kernel's outputs on a backend. */
export async function outputsOn(
  start: () => Promise<unknown>,
  each: KernelCase,
  s: Sizes,
  inputs?: GivenInputs,
): Promise<Output[]> {
  const { kernel, attrs } = each;
  const given = inputs ?? (await inputsOf(each, s));
  await start();
  return scope(() => {
    const tensors = given.map(([name, { values, shape, dtype }]) => [name, tensor(values, shape, dtype)]);
    return kernel(Object.fromEntries(tensors), attrs?.(s) ?? {}).map(read);
  });
}

/** The outputs of the composed definition, the only one of the cpu backend. */
export function reference(each: KernelCase, s: Sizes, inputs?: GivenInputs): Promise<Output[]> {
  return outputsOn(() => useBackend('cpu'), each, s, inputs);
}

/** Added to the scale of errors: inputs are of order 1, and rounding errors remain where their products cancel. */
const TERMS = 0.3;

/** The largest relative error of a kernel's outputs, whose shapes and types must be those expected. */
export function largestError(actual: readonly Output[], expected: readonly Output[]): number {
  const formsOf = (outputs: readonly Output[]) => outputs.map(({ shape, dtype }) => ({ shape, dtype }));
  expect(formsOf(actual)).toEqual(formsOf(expected));
  return Math.max(...actual.map(({ values }, i) => relativeError(values, expected[i]?.values ?? [], TERMS)));
}
