/** How many sequences pass through the model at once: as many as a backend's memory holds comfortably. */
import { isRouted, type ModelConfig, selectedTokens } from '../model/config.js';
import type { BackendName } from '../plan/run.js';

/** Bytes of activations that a micro-batch may save for its backward pass. wasm's whole address space is 4 GiB. */
const ACTIVATION_BYTES: Record<BackendName, number> = {
  wasm: 512 * 2 ** 20,
  tensorflow: 2 * 2 ** 30,
  cuda: 32 * 2 ** 30,
};

/** Float32 values saved for each token of a sequence, all blocks and the logits together. */
function savedValuesPerSequence(model: ModelConfig): number {
  const { d_model: D, d_ff: F, n_layers, sequence_length: T, vocab_size: V, routing } = model;
  // x, its norm, q, k, v, attention, the sum, its norm: 8·D; before and after gelu: 2·F; on the way back as much again
  // of one block.
  const perToken = 8 * D + 2 * F;
  let values = 2 * T * V + T * perToken;
  for (let block = 0; block < n_layers; block++) {
    const routed = routing !== null && isRouted(model, block);
    const tokens = routed ? selectedTokens(routing.capacity, T) : T;
    values += tokens * perToken + (routed ? T * (D + 2 * routing.predictor_hidden) : 0);
  }
  return values;
}

/** Sequences of a micro-batch: at most the batch, at least one. An estimate, not a promise. */
export function microBatchSequences(
  model: ModelConfig,
  batchSequences: number,
  backend: BackendName,
): number {
  const fitting = Math.floor(ACTIVATION_BYTES[backend] / (4 * savedValuesPerSequence(model)));
  return Math.max(1, Math.min(batchSequences, fitting));
}
