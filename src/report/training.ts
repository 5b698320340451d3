/** What it takes to train the model at an optimum: tokens, passes over the data, steps, batch. */
import type { Curve } from './study.js';

export interface Training {
  tokens: number;
  /** Passes over the training data; null if their size is unknown. */
  passes: number | null;
  steps: number;
  /** Sequences a step. */
  batch: number;
}

/** At the optimal FLOPs per pass, with the batch and the data of the best run. */
export function trainingOf({ budget, optimum: { flopsPerPass }, best: { row } }: Curve): Training {
  const sequences = budget / (3 * flopsPerPass);
  const tokens = sequences * row.sequence_length;
  const { data_passes } = row;
  return {
    tokens,
    passes: data_passes == null ? null : (tokens * data_passes) / row.tokens,
    steps: sequences / row.batch_sequences,
    batch: row.batch_sequences,
  };
}
