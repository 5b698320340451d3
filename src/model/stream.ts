/** The residual stream between two blocks, whose last addition is left to its next reader. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { residual } from '../ops/residual.js';
import { addRmsNorm, rmsNorm } from '../ops/rms-norm.js';
import type { Parameter, Tape } from '../ops/tape.js';

/**
 * x, or x + branch where branch is not null: the next reader adds the two in one pass with its own work. [B, T, D] each.
 * A block owns its input stream: its output may overwrite x.
 */
export interface Stream {
  x: Tensor;
  branch: Tensor | null;
}

/** The stream as one tensor [B, T, D]. */
export function sumOf(tape: Tape | null, { x, branch }: Stream): Tensor {
  return branch === null ? x : residual(tape, x, branch);
}

/** [the stream as one tensor, its RMSNorm], [B, T, D] each. gain [D] */
export function normOf(tape: Tape | null, { x, branch }: Stream, gain: Parameter): [sum: Tensor, y: Tensor] {
  return branch === null ? [x, rmsNorm(tape, x, gain)] : addRmsNorm(tape, x, branch, gain);
}
