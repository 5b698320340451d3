/** The optimizer's hyperparameters of a run: those of its sweep file, as its parametrization adapts them to shape and batch. */
import { type BaseShape, shapeScale, type TensorRole, updateFactors } from '../model/parametrization.js';
import type { Parameter } from '../ops/tape.js';
import type { RunSpec } from '../plan/run.js';
import { ADAM_BETA2, ADAM_EPSILON } from './adamw.js';
import type { OptimizerOptions } from './optimizer.js';

/** β₂ = 0.95^b within these bounds. */
const BETA2_RANGE = [0.9, 0.999] as const;
/** Beyond a factor of four the square-root rule has not been checked. */
const BATCH_RANGE = [1 / 4, 4] as const;

type Trained = Pick<RunSpec, 'model' | 'batch_sequences' | 'training'>;

/** b: the batch as a multiple of the base's, in tokens; 1 under `standard`. */
export function batchScale({ model, batch_sequences, training }: Trained): number {
  const base = training.base ?? null;
  return base === null ? 1 : (batch_sequences * model.sequence_length) / base.batch_tokens;
}

/** Whether the batch is so far from the base's that the rule for rate and decay is a guess. */
export function isFarFromBase(spec: Trained): boolean {
  const b = batchScale(spec);
  return b < BATCH_RANGE[0] || b > BATCH_RANGE[1];
}

/**
 * The peak learning rate of tensors whose rate factor is 1: η = η₀·√b (square-root scaling for Adam: Malladi et al. 2022,
 * arXiv 2205.10287).
 */
export function peakLearningRate(spec: Trained): number {
  return spec.training.learning_rate * Math.sqrt(batchScale(spec));
}

/**
 * The options of AdamW: λ = λ₀·√b and β₂ = 0.95^b, which keep the averaging times in tokens (Malladi et al. 2022), and
 * ε = 1e-8/(m·ℓ), since gradients shrink with width and depth (Dey et al. 2025, table 1).
 */
export function optimizerOptions(spec: Trained, roles: ReadonlyMap<Parameter, TensorRole>): OptimizerOptions {
  const base: BaseShape | null = spec.training.base ?? null;
  const scale = shapeScale(spec.model, base);
  const b = batchScale(spec);
  const [lowest, highest] = BETA2_RANGE;
  return {
    weightDecay: spec.training.weight_decay * Math.sqrt(b),
    gradientClip: spec.training.gradient_clip,
    factors: (parameter) => updateFactors(roleOf(parameter, roles), scale),
    beta2: Math.min(highest, Math.max(lowest, ADAM_BETA2 ** b)),
    epsilon: ADAM_EPSILON / (scale.width * scale.depth),
  };
}

function roleOf(parameter: Parameter, roles: ReadonlyMap<Parameter, TensorRole>): TensorRole {
  const role = roles.get(parameter);
  if (role === undefined) throw new Error(`${parameter.name} has no role in the parametrization`);
  return role;
}
