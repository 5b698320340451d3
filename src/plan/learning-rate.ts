/** The learning rate that a sweep file's `auto`, number or multiple stands for. */
import { RateMultiple, type WrittenRate } from '../config/learning-rate.js';
import type { ParametrizationName } from '../model/parametrization.js';

/** The peak learning rate of `complete` at its default base: best for the dense model and MoD of 256 × 8 on bytes (docs/parametrization.md). */
const BASE_LEARNING_RATE = 3.5e-3;

/** `auto`: 2e-3 · min(1, 384 / d_model) under `standard`, the rate at the base shape under `complete`. */
export function automaticLearningRate(parametrization: ParametrizationName, d_model: number): number {
  switch (parametrization) {
    case 'standard':
      return 2e-3 * Math.min(1, 384 / d_model);
    case 'complete':
      return BASE_LEARNING_RATE;
    default:
      return parametrization satisfies never;
  }
}

/** A rate in numbers. A multiple is one of the automatic rate, rounded to 12 digits: 0.7 · 3.5e-3 is 2.45e-3. */
export function resolvedLearningRate(
  rate: WrittenRate,
  parametrization: ParametrizationName,
  d_model: number,
): number {
  const automatic = automaticLearningRate(parametrization, d_model);
  if (rate === 'auto') return automatic;
  return rate instanceof RateMultiple ? Number((rate.value * automatic).toPrecision(12)) : rate.value;
}
