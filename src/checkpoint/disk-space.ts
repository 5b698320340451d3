/** Estimates the disk space of checkpoints before they are written. */
import type { PlannedRun } from '../plan/run.js';

/** In float32. */
const BYTES_PER_WEIGHT = 4;
/** A weight and the optimizer's two moments. */
const BYTES_PER_PARAMETER = 3 * BYTES_PER_WEIGHT;
/** Upper bound for config.json, state.json and the headers of the two safetensors files. */
const SMALL_FILES = 64 * 1024;

/** Bytes of one checkpoint that training can resume from: config.json, weights, optimizer, state. */
export function checkpointBytes(parameters: number): number {
  return parameters * BYTES_PER_PARAMETER + SMALL_FILES;
}

/**
 * Upper bound for the bytes of all checkpoints while these runs train: for the `jobs` largest runs the checkpoints that
 * each keeps and one being written, and for every run the final weights that are kept.
 */
export function sweepCheckpointBytes(runs: readonly PlannedRun[], jobs: number): number {
  const training = runs
    .map(({ params_total, checkpoint }) => (checkpoint.keep + 1) * checkpointBytes(params_total))
    .sort((a, b) => b - a)
    .slice(0, jobs);
  return [...training, finalCheckpointBytes(runs)].reduce((sum, size) => sum + size, 0);
}

/** Upper bound for the bytes of the final weights that stay when these runs are done. */
export function finalCheckpointBytes(runs: readonly PlannedRun[]): number {
  const final = new Map<string, number>();
  for (const run of runs) {
    const group = groupOf(run);
    if (group !== null) final.set(group, Math.max(weightBytes(run), final.get(group) ?? 0));
  }
  return [...final.values()].reduce((sum, size) => sum + size, 0);
}

/** Bytes of a run's final weights. */
export function weightBytes({ params_total }: Pick<PlannedRun, 'params_total'>): number {
  return params_total * BYTES_PER_WEIGHT + SMALL_FILES;
}

/** The runs of one group keep the final weights of one of them; null: none are kept. */
function groupOf({ run_id, spec, checkpoint: { keep_final } }: PlannedRun): string | null {
  switch (keep_final) {
    case 'all':
      return run_id;
    case 'best':
      return `${spec.flop_budget} ${spec.variant}`;
    case 'none':
      return null;
    default:
      return keep_final satisfies never;
  }
}
