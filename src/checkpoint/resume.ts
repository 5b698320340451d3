/** Finds the checkpoint that a run resumes from. */
import { join } from 'node:path';
import { messageOf } from '../errors.js';
import { checkCheckpoint, checkpointName, checkpointSteps, DAMAGED, quarantine } from './folder.js';
import { type RunState, readState } from './run-state.js';

/** A checkpoint whose checksums have all been verified. */
export interface UsableCheckpoint {
  folder: string;
  state: RunState;
}

/**
 * The newest checkpoint that is undamaged and of this config; null if there is none. Damaged ones are quarantined.
 *
 * @param log called with one line for each checkpoint that is not used
 */
export function usableCheckpoint(
  checkpoints: string,
  configHash: string,
  log: (line: string) => void,
): UsableCheckpoint | null {
  for (const step of checkpointSteps(checkpoints).reverse()) {
    const folder = join(checkpoints, checkpointName(step));
    try {
      checkCheckpoint(folder);
      const state = readState(folder);
      if (state.config_hash === configHash) return { folder, state };
      log(`${folder}: not used: it belongs to another config`);
    } catch (error) {
      log(`${messageOf(error)}: this checkpoint is not used; it is now ${checkpointName(step)}${DAMAGED}`);
      quarantine(folder);
    }
  }
  return null;
}
