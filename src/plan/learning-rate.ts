/** `learning_rate: auto`. */

/** The automatic peak learning rate of a model of this width: 2e-3 · min(1, 384 / d_model). */
export function automaticLearningRate(d_model: number): number {
  return 2e-3 * Math.min(1, 384 / d_model);
}
