/** How often a run is saved and which weights are kept. */

/** When a run saves what it can go on from, and what is kept of its weights. It decides no result. */
export interface CheckpointPolicy {
  /** Minutes of training from one checkpoint to the next; 0: none by time. */
  minutes: number;
  /** A checkpoint after every so many steps; 0: none by steps. */
  steps: number;
  /** How many are kept while the run trains, the newest; the one before is used where the newest is damaged. */
  keep: number;
  /** When a run is done: `best`, that of the lowest loss of each budget and variant alone. */
  keep_final: 'all' | 'best' | 'none';
}
