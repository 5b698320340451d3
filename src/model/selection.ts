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

/** The k = floor(C·T + 0.5) tokens of each sequence with the largest router weights. r [B, T] */
export function selectByCapacity(r: Tensor, capacity: number): Selection {
  return selectTopK(r, selectedTokens(capacity, r.shape[1] as number));
}

/**
 * The tokens whose logit is above a number; null if there is none. Their number differs between sequences, so they are packed
 * into one row. Reads the logits back to the host: for evaluation. logits [B, T]
 */
export function selectAbove({ logits, above }: Decision): PackedSelection | null {
  const [batch, length] = logits.shape as [number, number];
  const rows = Array.from(logits.dataSync()).flatMap((logit, row) => (logit > above ? [row] : []));
  if (rows.length === 0) return null;
  const lengths = new Array<number>(batch).fill(0);
  const mask = new Float32Array(batch * length);
  for (const row of rows) {
    const sequence = Math.floor(row / length);
    lengths[sequence] = (lengths[sequence] as number) + 1;
    mask[row] = 1;
  }
  const positions = rows.map((row) => row % length);
  return {
    rows: tensor2d(rows, [1, rows.length], 'int32'),
    positions: tensor2d(positions, [1, rows.length], 'int32'),
    lengths,
    mask: tensor2d(mask, [batch, length]),
  };
}
