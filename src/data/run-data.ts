/** The data that a run is trained and evaluated on. */
import type { RunSpec } from '../plan/run.js';
import { HeldoutWindows, TrainingBatches } from './batches.js';
import { openTokens } from './tokens.js';

/** The training data of a run, from its first batch on. */
export function openTrainingData(
  { data, model, seed }: RunSpec,
  baseDir: string,
): { batches: TrainingBatches; close: () => void } {
  const source = openTokens(data, 'train', baseDir);
  return {
    batches: new TrainingBatches(source, model.sequence_length, seed),
    close: () => source.close(),
  };
}

/** The held-out windows of a run. */
export function openHeldoutData(
  { data, model }: RunSpec,
  baseDir: string,
): { windows: HeldoutWindows; close: () => void } {
  const source = openTokens(data, 'heldout', baseDir);
  return { windows: new HeldoutWindows(source, model.sequence_length), close: () => source.close() };
}
