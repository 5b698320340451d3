/** state.json of a checkpoint: the state that a run resumes from, in addition to weights and optimizer. */
import { join } from 'node:path';
import { z } from 'zod';
import { BACKEND_NAMES } from '../backends/names.js';
import { PRECISIONS } from '../backends/precisions.js';
import { InputError } from '../errors.js';
import { readJson } from '../files/json.js';

const count = z.int().nonnegative();
const numbers = z.array(z.number());
const shares = z.strictObject({ load: numbers, dropped: z.number(), noOp: z.number().nullable() });

const stateSchema = z.strictObject({
  format: z.literal('mod-state-1'),
  config_hash: z.string(),
  backend: z.enum(BACKEND_NAMES),
  precision: z.enum(PRECISIONS),
  /** Steps taken. */
  step: count,
  /** Sequences drawn from the training data; with the seed it determines the next ones. */
  cursor: count,
  /** First sequences of skipped batches, whose loss or gradient norm was not finite. */
  skipped_batches: z.array(count),
  micro_batch_sequences: count,
  /**
   * The running quantiles of the routed blocks, before their correction; null: -infinity, which JSON lacks. Absent without
   * them, and in checkpoints of older versions.
   */
  router_thresholds: z.strictObject({ sums: z.array(z.number().nullable()), steps: count }).optional(),
  /** Seconds of training so far, over all attempts. */
  wall_s: z.number().nonnegative(),
  log: z.strictObject({
    losses: numbers,
    times: numbers,
    experts: z.array(shares),
    pending: z.array(
      z.strictObject({
        step: count,
        tokens: count,
        loss: z.number(),
        learningRate: z.number(),
        gradNorm: z.number(),
        predictorAccuracy: z.number().nullable(),
        experts: shares.nullable(),
        heldoutLoss: z.number().nullable(),
        stepMs: z.number(),
      }),
    ),
  }),
});

export type RunState = z.output<typeof stateSchema>;

export function stateText(state: RunState): string {
  return `${JSON.stringify(state)}\n`;
}

/** @throws InputError naming the file and the key that is wrong */
export function readState(folder: string): RunState {
  const path = join(folder, 'state.json');
  const parsed = stateSchema.safeParse(readJson(path));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new InputError(`${path}: ${issue?.path.join('.') || 'state'}: ${issue?.message}`);
}
