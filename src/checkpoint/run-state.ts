/** state.json of a checkpoint: what a run goes on from beside weights and moments, and finding the checkpoint to go on from. */
import { join } from 'node:path';
import { z } from 'zod';
import { BACKEND_NAMES } from '../backends/names.js';
import { PRECISIONS } from '../backends/precisions.js';
import { InputError, messageOf } from '../errors.js';
import { readJson } from '../files/json.js';
import { checkCheckpoint, checkpointName, checkpointSteps, DAMAGED, quarantine } from './folder.js';

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
  /** Sequences drawn from the training data: the order of the data follows from it and the seed. */
  cursor: count,
  /** First sequences of batches that are passed over, since their numbers were not finite. */
  skipped_batches: z.array(count),
  micro_batch_sequences: count,
  /** Seconds of all attempts up to here. */
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

/** A checkpoint that has been read from its first byte to its last. */
export interface UsableCheckpoint {
  folder: string;
  state: RunState;
}

/**
 * The newest checkpoint that is whole and of this config; null where there is none. Damaged ones are named and put
 * aside, and the one before is looked at.
 *
 * @param tell takes a line for each that is not used
 */
export function usableCheckpoint(
  checkpoints: string,
  configHash: string,
  tell: (line: string) => void,
): UsableCheckpoint | null {
  for (const step of checkpointSteps(checkpoints).reverse()) {
    const folder = join(checkpoints, checkpointName(step));
    try {
      checkCheckpoint(folder);
      const state = readState(folder);
      if (state.config_hash === configHash) return { folder, state };
      tell(`${folder}: of another config: not used`);
    } catch (error) {
      tell(`${messageOf(error)}: this checkpoint is not used, and is now ${checkpointName(step)}${DAMAGED}`);
      quarantine(folder);
    }
  }
  return null;
}

export function stateText(state: RunState): string {
  return `${JSON.stringify(state)}\n`;
}

function readState(folder: string): RunState {
  const path = join(folder, 'state.json');
  const parsed = stateSchema.safeParse(readJson(path));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new InputError(`${path}: ${issue?.path.join('.') || 'state'}: ${issue?.message}`);
}
