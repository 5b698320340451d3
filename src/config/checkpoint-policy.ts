/** The `checkpoint` section of a sweep file: how often a run is saved and which weights are kept. */

/** Which final weights are kept: all, those of the run with the lowest loss per budget and variant (`best`), or none. */
export const KEEP_FINAL = ['all', 'best', 'none'] as const;
export type KeepFinal = (typeof KEEP_FINAL)[number];

/** When a run writes checkpoints and which of them are kept. It does not affect results. */
export interface CheckpointPolicy {
  /** Minutes of training between checkpoints; 0: none by time. */
  minutes: number;
  /** Steps between checkpoints; 0: none by steps. */
  steps: number;
  /** The number of newest checkpoints kept during training; an older one is used if the newest is damaged. */
  keep: number;
  /** Which weights are kept after a run. */
  keep_final: KeepFinal;
}
