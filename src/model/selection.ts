/** Selection: which tokens a routed block processes, by top-k in training, by a decision per token in the causal modes. */
import { type Tensor, tensor2d } from '@tensorflow/tfjs-core';
import { selectTopK } from '../ops/select-top-k.js';
import { selectedTokens } from './config.js';
import type { Decision } from './routing-modes.js';

/** The same number of tokens in every sequence. */
export interface Selection {
  /** [B, k] int32, ascending. */
  indices: Tensor;
  /** [B, T] float32: 1 for a selected token, else 0. */
  mask: Tensor;
}

/** Any number of tokens in each sequence, N in total, packed one sequence after another. */
export interface PackedSelection {
  /** Indices into the batch as one row of B·T tokens: [1, N] int32, ascending. */
  rows: Tensor;
  /** Their positions in their own sequences: [1, N] int32. */
  positions: Tensor;
  /** Selected tokens of each sequence. */
  lengths: number[];
  /** [B, T] float32: 1 for a selected token, else 0. */
  mask: Tensor;
}

/** The k = floor(C·T + 0.5) tokens of each sequence with the largest router weights, at least one. r [B, T] */
export function selectByCapacity(r: Tensor, capacity: number): Selection {
  // A short text, or a checkpoint of another program, can ask for none, which no kernel of top-k computes.
  return selectTopK(r, Math.max(1, selectedTokens(capacity, r.shape[1] as number)));
}

/**
 * The tokens whose logit is above a number; null if there is none. Their number differs between sequences, so they are packed
 * into one row. Reads the logits back to the host: for evaluation. logits [B, T]
 */
export function selectAbove({ logits, above }: Decision): PackedSelection | null {
  const [batch, length] = logits.shape as [number, number];
  const values = logits.dataSync();
  // Typed arrays and one loop: the device waits for this.
  const [rows, positions] = [new Int32Array(values.length), new Int32Array(values.length)];
  const mask = new Float32Array(values.length);
  const lengths = new Array<number>(batch).fill(0);
  let count = 0;
  for (let sequence = 0; sequence < batch; sequence++) {
    const before = count;
    for (let position = 0; position < length; position++) {
      const row = sequence * length + position;
      if (!((values[row] as number) > above)) continue;
      mask[row] = 1;
      rows[count] = row;
      positions[count] = position;
      count += 1;
    }
    lengths[sequence] = count - before;
  }
  if (count === 0) return null;
  return {
    rows: tensor2d(rows.subarray(0, count), [1, count], 'int32'),
    positions: tensor2d(positions.subarray(0, count), [1, count], 'int32'),
    lengths,
    mask: tensor2d(mask, [batch, length]),
  };
}
