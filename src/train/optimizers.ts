/** The table of optimizers. */
import type { Parameter } from '../ops/tape.js';
import { AdamW } from './adamw.js';
import type { Optimizer, OptimizerOptions } from './optimizer.js';

type CreateOptimizer = (parameters: readonly Parameter[], options: OptimizerOptions) => Optimizer;

const OPTIMIZERS = {
  adamw: (parameters, options) => new AdamW(parameters, options),
} satisfies Record<string, CreateOptimizer>;

export type OptimizerName = keyof typeof OPTIMIZERS;
export const OPTIMIZER_NAMES = Object.keys(OPTIMIZERS) as readonly OptimizerName[];

/** Creates an optimizer with zero state for these parameters, on the active backend. */
export function createOptimizer(
  parameters: readonly Parameter[],
  options: OptimizerOptions,
  name: OptimizerName = 'adamw',
): Optimizer {
  return OPTIMIZERS[name](parameters, options);
}
