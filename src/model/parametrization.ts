/**
 * How initial deviations, learning rates, weight decay and multipliers depend on a model's shape: one table of rules by the
 * role of a tensor. `complete` is CompleteP with α = 1 (Dey et al. 2025, arXiv 2505.01618, table 1) on the width rules of muP
 * (Yang et al. 2022, arXiv 2203.03466, table 8): a learning rate that is tuned at a small base shape holds at every width and
 * depth. `standard` is the same table with every factor 1.
 */
import type { ModelConfig } from './config.js';

export const PARAMETRIZATIONS = ['standard', 'complete'] as const;
export type ParametrizationName = (typeof PARAMETRIZATIONS)[number];

/** The shape and batch at which the hyperparameters of `complete` are tuned. */
export interface BaseShape {
  d_model: number;
  n_layers: number;
  head_size: number;
  /** Tokens of a batch. */
  batch_tokens: number;
}

export const DEFAULT_BASE: BaseShape = { d_model: 256, n_layers: 8, head_size: 64, batch_tokens: 131_072 };

/** A model's shape as multiples of the base. All are 1 under `standard`. */
export interface ShapeScale {
  /** m = D/D₀. */
  width: number;
  /** F/(4·D₀): the width that `down` sums over. */
  hidden: number;
  /** ℓ = L/L₀. */
  depth: number;
  /** The layers of the initial deviation of residual outputs: L₀, or L under `standard`. */
  residualLayers: number;
}

/** The scale of a model under `complete`, or for a null base under `standard`. */
export function shapeScale(model: ModelConfig, base: BaseShape | null): ShapeScale {
  const { d_model, d_ff, n_layers } = model;
  if (base === null) return { width: 1, hidden: 1, depth: 1, residualLayers: n_layers };
  return {
    width: d_model / base.d_model,
    hidden: d_ff / (4 * base.d_model),
    depth: n_layers / base.n_layers,
    residualLayers: base.n_layers,
  };
}

interface Rule {
  /** Standard deviation of the initial values; null for tensors that start at ones or zeros. */
  deviation: ((scale: ShapeScale) => number) | null;
  /** Factor of the learning rate. */
  rate: (scale: ShapeScale) => number;
  /** Factor of the weight decay; AdamW multiplies it by the tensor's learning rate. */
  decay: (scale: ShapeScale) => number;
}

type MatrixRule = Rule & { deviation: (scale: ShapeScale) => number };

const DEVIATION = 0.02;
const one = () => 1;

/** A matrix that sums over n·fan-in inputs: deviation ∝ 1/√n, rate ∝ 1/n, rate × decay constant (muP, table 8: hidden weights). */
const hiddenRule = (n: (scale: ShapeScale) => number): MatrixRule => ({
  deviation: (scale) => DEVIATION / Math.sqrt(n(scale)),
  rate: (scale) => 1 / n(scale),
  decay: n,
});

/** The same for a matrix whose outputs are added to the residual stream. Under CompleteP their depth factor is a multiplier. */
const residualRule = (n: (scale: ShapeScale) => number): MatrixRule => ({
  ...hiddenRule(n),
  deviation: (scale) => DEVIATION / Math.sqrt(2 * scale.residualLayers) / Math.sqrt(n(scale)),
});

const RULES = {
  /** Token embedding, tied or not, and lm_head, whose width factor is a multiplier of the logits. */
  embedding: { deviation: () => DEVIATION, rate: one, decay: one },
  /** q, k, v and up projections, also of experts. */
  hidden: hiddenRule(({ width }) => width),
  /** The attention's output projection. */
  'attention output': residualRule(({ width }) => width),
  /** The MLP's down projection, also of experts. */
  'mlp output': residualRule(({ hidden }) => hidden),
  /** Norm gains and biases. */
  vector: { deviation: null, rate: one, decay: () => 0 },
  /** Weights from the width to a fixed number of outputs: routers of tokens and experts, the predictor's first layer. */
  router: {
    deviation: ({ width }) => DEVIATION / width,
    rate: ({ width }) => 1 / width,
    decay: ({ width }) => width,
  },
  /** The predictor's second layer: both of its sides are fixed. */
  'predictor output': { deviation: () => DEVIATION, rate: one, decay: one },
} as const satisfies Record<string, Rule>;

export type TensorRole = keyof typeof RULES;
/** Roles whose tensors start as draws from a normal distribution. */
export type MatrixRole = Exclude<TensorRole, 'vector'>;

/** The standard deviation of a matrix' initial values. */
export function initialDeviation(role: MatrixRole, scale: ShapeScale): number {
  return RULES[role].deviation(scale);
}

/** Factors of a tensor's learning rate and weight decay. */
export function updateFactors(role: TensorRole, scale: ShapeScale): { rate: number; decay: number } {
  const { rate, decay } = RULES[role];
  return { rate: rate(scale), decay: decay(scale) };
}

/** Factors inside the model; config.json of a checkpoint has those that are not the standard ones. */
export interface Multipliers {
  /** Of the outputs of attention and MLP: 1/ℓ (CompleteP, α = 1). */
  residual: number;
  /** Of the logits: 1/m (muP, output weights). */
  logits: number;
  /** Of q·k before the softmax: √K₀/K (muP, attention ∝ 1/K), 1/√K at the base's head size. */
  attention: number;
}

/** The multipliers of a model: those of its config, or the standard ones 1, 1 and 1/√K. */
export function multipliersOf(model: ModelConfig): Multipliers {
  const { residual_multiplier = 1, logits_multiplier = 1, attention_multiplier } = model;
  return {
    residual: residual_multiplier,
    logits: logits_multiplier,
    attention: attention_multiplier ?? 1 / Math.sqrt(headSize(model)),
  };
}

/** A model with the multipliers of `complete`; those that equal the standard ones are left out of its config. */
export function withMultipliers(model: ModelConfig, base: BaseShape): ModelConfig {
  const { width, depth } = shapeScale(model, base);
  const size = headSize(model);
  return {
    ...model,
    ...(depth === 1 ? {} : { residual_multiplier: 1 / depth }),
    ...(width === 1 ? {} : { logits_multiplier: 1 / width }),
    ...(size === base.head_size ? {} : { attention_multiplier: Math.sqrt(base.head_size) / size }),
  };
}

const headSize = ({ d_model, n_heads }: ModelConfig) => d_model / n_heads;
