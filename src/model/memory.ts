/** How many sequences pass through the model at once: as many as a backend's memory holds comfortably. */

import { BACKENDS, type BackendName } from '../backends/names.js';
import type { Precision } from '../backends/precisions.js';
import { blockTokens, expertSlots, isRouted, type ModelConfig } from './config.js';

/** What a backend tells about itself that matters here. */
export interface MicroBatchBackend {
  name: BackendName;
  precision: Precision;
  /** Memory of the GPU that computes, in all; null where it is the machine's own. */
  memoryBytes: number | null;
}

/** Of a GPU's memory: weights, moments and what a step needs beside are in the rest. */
const SHARE_OF_GPU = 0.7;

/** Values saved for each token of a sequence, all blocks and the logits together. */
function savedValuesPerSequence(model: ModelConfig, backend: BackendName): number {
  const { d_model: D, d_ff: F, n_layers, sequence_length: T, vocab_size: V, routing, experts } = model;
  // x, its norm, q, k, v, attention, the sum, its norm: 8·D; before and after gelu: 2·F; on the way back as much again
  // of one block.
  const perToken = 8 * D + 2 * F;
  let values = BACKENDS[backend].logitTensors * T * V + T * perToken;
  for (let block = 0; block < n_layers; block++) {
    const routed = routing !== null && isRouted(model, block);
    const tokens = blockTokens(model, block);
    // Experts hold their slots in place of the tokens, what goes in and comes out beside the hidden values.
    const slots = experts === null ? 0 : experts.count * expertSlots(experts, tokens);
    values += experts === null ? tokens * perToken : tokens * 8 * D + slots * (2 * D + 2 * F);
    values += routed ? T * (D + 2 * routing.predictor_hidden) : 0;
  }
  return values;
}

/** Sequences of a micro-batch: at most the batch, at least one. An estimate, not a promise. */
export function microBatchSequences(
  model: ModelConfig,
  batchSequences: number,
  { name, precision, memoryBytes }: MicroBatchBackend,
): number {
  const { activationBytes, bf16Activations } = BACKENDS[name];
  const bytes = memoryBytes === null ? activationBytes : SHARE_OF_GPU * memoryBytes;
  const bytesPerValue = bf16Activations && precision === 'bf16' ? 2 : 4;
  const fitting = Math.floor(bytes / (bytesPerValue * savedValuesPerSequence(model, name)));
  return Math.max(1, Math.min(batchSequences, fitting));
}
