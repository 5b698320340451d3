/** Which tokens go through a routed block: top-k in training, a causal decision per token in sampling. */
import { type Tensor, tensor2d } from '@tensorflow/tfjs-core';
import { selectTopK } from '../ops/select-top-k.js';
import { hasPredictor, type ModelConfig, type RoutingMode, selectedTokens } from './config.js';

/** The same number of tokens in every sequence. */
export interface Selection {
  /** [B, k] int32, ascending. */
  indices: Tensor;
  /** [B, T] float32: 1 for a selected token, else 0. */
  mask: Tensor;
}

/** Any number of tokens in each sequence, N in all, packed one sequence after another. */
export interface PackedSelection {
  /** Rows of the batch as one sequence of B·T tokens: [1, N] int32, ascending. */
  rows: Tensor;
  /** Their positions in their own sequences: [1, N] int32. */
  positions: Tensor;
  /** Tokens of each sequence. */
  lengths: number[];
  /** [B, T] float32: 1 for a selected token, else 0. */
  mask: Tensor;
}

/** The modes in which a model can be evaluated, training's first; `threshold` where the auxiliary loss was trained. */
export function evaluationModes(model: ModelConfig): RoutingMode[] {
  const { routing } = model;
  if (routing === null || routing.router === 'random') return ['topk'];
  return [
    'topk',
    ...(hasPredictor(routing) ? (['predictor'] as const) : []),
    ...(routing.aux_loss_weight !== 0 ? (['threshold'] as const) : []),
  ];
}

export const NO_CAUSAL_FORM = 'random routing has no causal form';

/** Why a model cannot be run in a mode, or null if it can. A dense model accepts every mode: nothing is selected. */
export function refuseMode(model: ModelConfig, mode: RoutingMode): string | null {
  const { routing } = model;
  if (routing === null || mode === 'topk') return null;
  if (routing.router === 'random') return `${NO_CAUSAL_FORM}; use topk`;
  if (mode === 'predictor' && !hasPredictor(routing))
    return 'the model has no predictor; use topk or threshold';
  return null;
}

/** The k largest router weights of each sequence. r [B, T] */
export function selectByCapacity(r: Tensor, capacity: number): Selection {
  return selectTopK(r, selectedTokens(capacity, r.shape[1] as number));
}

/**
 * The tokens whose logit is above 0. How many differs between sequences, so that they are packed, and the logits are
 * read back: this form is for evaluation. Null where nobody is selected. logits [B, T]
 */
export function selectPositive(logits: Tensor): PackedSelection | null {
  const [batch, length] = logits.shape as [number, number];
  const rows = Array.from(logits.dataSync()).flatMap((logit, row) => (logit > 0 ? [row] : []));
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
