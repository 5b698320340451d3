/** Routers: where a routed block's router weights r come from; each router is one entry of a table. */
import { type Tensor, tensor1d } from '@tensorflow/tfjs-core';
import type { Gate } from '../ops/gates.js';
import { gatherTokens } from '../ops/gather-tokens.js';
import { normalDrawsKernel } from '../ops/normal-draws.js';
import { routedGather } from '../ops/routed-gather.js';
import { addRouterLogits, recordRouterLogits, routerLogits } from '../ops/router-logits.js';
import type { Parameter, Tape } from '../ops/tape.js';
import { randomStream } from '../random.js';
import type { CausalMode, ModelConfig, RouterName, RoutingConfig } from './config.js';
import type { MatrixRole } from './parametrization.js';
import { type Stream, sumOf } from './stream.js';
import type { Variant } from './variants.js';

/** fc2(gelu(fc1(x))): the causal predictor of a routed block. */
export interface PredictorParameters {
  /** [P, D] */
  fc1: Parameter;
  /** [P] */
  fc1Bias: Parameter;
  /** [1, P] */
  fc2: Parameter;
  /** [1] */
  fc2Bias: Parameter;
}

/** The routing parameters of a routed block. */
export interface RoutedParameters {
  /** w [1, D]; null for a router that learns nothing. */
  router: Parameter | null;
  /** Null without a predictor. */
  predictor: PredictorParameters | null;
}

/** Creates parameters of a block; names are those of a checkpoint without the block's prefix. */
export interface ParameterMaker {
  /** [rows, columns], normal at initialisation. */
  matrix: (role: MatrixRole, name: string, rows: number, columns: number) => Parameter;
  /** [size], zeros at initialisation. */
  bias: (name: string, size: number) => Parameter;
}

/** Forward FLOPs of one sequence in one routed block, in addition to those of attention and MLP. */
export interface RoutingFlops {
  router: number;
  predictor: number;
}

/** r [B, T] of a block, drawn for the sequences of a batch. */
export type DrawnWeights = (block: number) => Tensor;

/** The inputs of a router. */
export interface RouterInput {
  model: ModelConfig;
  routing: RoutingConfig;
  tape: Tape | null;
  /** The residual stream as the block receives it, [B, T, D]. */
  stream: Stream;
  parameters: RoutedParameters;
  block: number;
  /** For a router with `draws`; null for the others. */
  drawn: DrawnWeights | null;
}

/** Selected tokens, and the router weights that selected them. */
export interface GatherInput {
  tape: Tape | null;
  /** [B, T, D] */
  x: Tensor;
  /** [B, T] */
  r: Tensor;
  /** [B, k] int32 */
  indices: Tensor;
  parameters: RoutedParameters;
  /** Whether the loss depends on the r of every token, not only of the selected ones. */
  everyWeight: boolean;
}

/** Draws router weights on the device, from a key for run, phase and block, and the number of the first sequence. */
export interface RouterDraws {
  /** The key for `weights`: two random words, [2] int32. */
  key: (seed: number, phase: DrawPhase, block: number) => Int32Array;
  /** key [2], first [1] int32 → r [sequences, length] */
  weights: (key: Tensor, first: Tensor, sequences: number, length: number) => Tensor;
}

export type DrawPhase = 'training' | 'heldout';

export interface Router {
  /** The variant of a model with this router and one MLP per block. */
  variant: Variant;
  /** Whether training changes r. Only then can a block have a predictor, and does the auxiliary loss apply. */
  learns: boolean;
  /** The causal modes in which its models can be run, if they have what the mode needs (`MODES`). */
  causalModes: readonly CausalMode[];
  /** Those of a sweep file's gates with which it is trained. */
  gates: (listed: readonly Gate[]) => readonly Gate[];
  /** The parameters of a routed block, in a checkpoint's order. */
  parameters: (model: ModelConfig, routing: RoutingConfig, make: ParameterMaker) => RoutedParameters;
  /** The number of scalars in `parameters`. */
  parameterCount: (model: ModelConfig, routing: RoutingConfig) => number;
  flops: (model: ModelConfig, routing: RoutingConfig) => RoutingFlops;
  /** [the stream as one tensor [B, T, D], r [B, T] in float32] */
  weights: (input: RouterInput) => [x: Tensor, r: Tensor];
  /** x at the indices [B, k, D], and whether the tape has saved x, so that nothing may overwrite it. */
  gather: (input: GatherInput) => { rows: Tensor; isSaved: boolean };
  /** Whether training keeps the running quantile of r, a threshold of the selection. */
  hasThreshold: boolean;
  /** For a router that draws r, outside the model; null: r depends on the activations alone. */
  draws: RouterDraws | null;
}

/** r = w·x, trained through the gate (Raposo et al. 2024, equation 1). */
const learned: Router = {
  variant: 'mod',
  learns: true,
  causalModes: ['predictor', 'threshold', 'quantile'],
  gates: (listed) => listed,
  parameters: ({ d_model: D }, routing, { matrix, bias }) => {
    const P = routing.predictor_hidden;
    const router = matrix('router', 'router.weight', 1, D);
    if (P === 0) return { router, predictor: null };
    const predictor = {
      fc1: matrix('router', 'predictor.fc1.weight', P, D),
      fc1Bias: bias('predictor.fc1.bias', P),
      fc2: matrix('predictor output', 'predictor.fc2.weight', 1, P),
      fc2Bias: bias('predictor.fc2.bias', 1),
    };
    return { router, predictor };
  },
  // w: D; fc1: P·D + P; fc2: P + 1
  parameterCount: ({ d_model: D }, { predictor_hidden: P }) => D + (P === 0 ? 0 : P * D + P + P + 1),
  // r: 2·T·D; fc1 and fc2: 2·T·(D·P + P)
  flops: ({ d_model: D, sequence_length: T }, { predictor_hidden: P }) => ({
    router: 2 * T * D,
    predictor: 2 * T * (D * P + P),
  }),
  weights: ({ tape, stream: { x, branch }, parameters }) => {
    const w = weightOf(parameters);
    return branch === null ? [x, routerLogits(x, w)] : addRouterLogits(tape, x, branch, w);
  },
  gather: ({ tape, x, r, indices, parameters, everyWeight }) => {
    const w = weightOf(parameters);
    if (tape === null || !everyWeight) return { rows: routedGather(tape, x, r, w, indices), isSaved: false };
    recordRouterLogits(tape, x, r, w);
    return { rows: gatherTokens(tape, x, indices), isSaved: true };
  },
  hasThreshold: true,
  draws: null,
};

/** r ~ N(0, 1) for every token: the paper's control (Raposo et al. 2024, section 4.1). The same for a seed on every backend. */
const random: Router = {
  variant: 'random',
  learns: false,
  causalModes: [],
  gates: (listed) => listed,
  parameters: () => ({ router: null, predictor: null }),
  parameterCount: () => 0,
  flops: () => ({ router: 0, predictor: 0 }),
  weights: ({ tape, stream, block, drawn }) => {
    if (drawn === null) throw new Error('a model with random routing was run without drawn router weights');
    return [sumOf(tape, stream), drawn(block)];
  },
  gather: ({ tape, x, indices }) => ({ rows: gatherTokens(tape, x, indices), isSaved: false }),
  hasThreshold: false,
  draws: {
    key: (seed, phase, block) => {
      const stream = randomStream(seed, 'random-router', phase, block);
      return Int32Array.of(stream.bits(), stream.bits());
    },
    weights: (key, first, sequences, length) => normalDrawsKernel({ key, first }, { sequences, length })[0],
  },
};

export const ROUTERS: Record<RouterName, Router> = { learned, random };

/** Whether the routed blocks of a model have a predictor. */
export function hasPredictor({ router, predictor_hidden }: RoutingConfig): boolean {
  return ROUTERS[router].learns && predictor_hidden > 0;
}

/**
 * The drawn router weights of sequences first, first + 1, ... of a phase; null for a model whose router draws none. They
 * depend on seed, phase, block and sequence, and not on how sequences are batched.
 */
export function drawnWeights(
  { routing, sequence_length }: ModelConfig,
  seed: number,
  phase: DrawPhase,
  first: number,
  sequences: number,
): DrawnWeights | null {
  const draws = routing === null ? null : ROUTERS[routing.router].draws;
  if (draws === null) return null;
  return (block) => {
    const key = tensor1d(draws.key(seed, phase, block), 'int32');
    const start = tensor1d([first], 'int32');
    const r = draws.weights(key, start, sequences, sequence_length);
    key.dispose();
    start.dispose();
    return r;
  };
}

function weightOf({ router }: RoutedParameters): Parameter {
  if (router === null) throw new Error('a learned router was used without its weight');
  return router;
}
