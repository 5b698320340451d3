/** Sums of held-out losses over the clusters of a standard error: documents where their ends are known, else sequences. */
import type { Batch } from '../data/batches.js';
import type { LossClusters } from '../results/heldout-losses.js';
import type { Cluster } from '../statistics.js';

/** Sums over the windows so far: plain numbers, to be saved and resumed from. */
export interface LossSums {
  /** One per sequence. */
  sequences: number[];
  /** One per document; null if their ends are unknown. */
  documents: Cluster[] | null;
  /** Whether the last document continues in the next window. */
  isOpen: boolean;
}

export function emptySums(endOfText: number | null): LossSums {
  return { sequences: [], documents: endOfText === null ? null : [], isOpen: false };
}

/**
 * Adds the losses of a batch of consecutive windows, in nats, one per target. A document ends with its end-of-text token;
 * windows are cut without regard to documents, so one document may cover many windows.
 */
export function addDocuments(
  sums: LossSums,
  { targets }: Batch,
  losses: Float32Array,
  endOfText: number,
): void {
  const { documents } = sums;
  if (documents === null) return;
  for (let i = 0; i < targets.length; i++) {
    if (!sums.isOpen) documents.push({ sum: 0, size: 0 });
    const document = documents.at(-1) as Cluster;
    document.sum += losses[i] as number;
    document.size += 1;
    sums.isOpen = targets[i] !== endOfText;
  }
}

/** The clusters: documents if there are at least two, else the sequences of T tokens. */
export function lossClusters({ sequences, documents }: LossSums, sequenceLength: number): LossClusters {
  if (documents !== null && documents.length >= 2) return { unit: 'documents', clusters: documents };
  return { unit: 'sequences', clusters: sequences.map((sum) => ({ sum, size: sequenceLength })) };
}
