/** The micro-batch: how many sequences pass through the model at once, estimated from the backend's memory. */
import { BACKENDS, type BackendName } from '../backends/names.js';
import type { Precision } from '../backends/precisions.js';
import { blockTokens, expertSlots, isRouted, type ModelConfig } from './config.js';

/** The properties of a backend that the estimate depends on. */
export interface MicroBatchBackend {
  name: BackendName;
  precision: Precision;
  /** Total memory of the GPU in bytes; null for a backend that computes in the machine's memory. */
  memoryBytes: number | null;
}

/** Bytes of an activation on a backend whose activations follow the precision. */
const ACTIVATION_BYTES: Record<Precision, number> = { fp32: 4, bf16: 2 };
/** Share of a GPU's memory for activations: weights, moments and temporaries of a step take the rest. */
const SHARE_OF_GPU = 0.7;

/** Activations saved for one sequence, over all blocks and the logits: a number of values. */
function savedValuesPerSequence(model: ModelConfig, backend: BackendName): number {
  const { d_model: D, d_ff: F, n_layers, sequence_length: T, vocab_size: V, routing, experts } = model;
  // x, its norm, q, k, v, attention, the sum, its norm: 8·D; before and after gelu: 2·F. The backward pass needs as much
  // again for one block.
  const perToken = 8 * D + 2 * F;
  let values = BACKENDS[backend].logitTensors * T * V + T * perToken;
  for (let block = 0; block < n_layers; block++) {
    const routed = routing !== null && isRouted(model, block);
    const tokens = blockTokens(model, block);
    // Experts compute slots in place of tokens: input and output 2·D, hidden values 2·F each.
    const slots = experts === null ? 0 : experts.count * expertSlots(experts, tokens);
    values += experts === null ? tokens * perToken : tokens * 8 * D + slots * (2 * D + 2 * F);
    values += routed ? T * (D + 2 * routing.predictor_hidden) : 0;
  }
  return values;
}

/** Sequences of a micro-batch, from 1 to the batch: an estimate that is halved when the device runs out of memory. */
export function microBatchSequences(
  model: ModelConfig,
  batchSequences: number,
  { name, precision, memoryBytes }: MicroBatchBackend,
): number {
  const { activationBytes, bf16Activations } = BACKENDS[name];
  const bytes = memoryBytes === null ? activationBytes : SHARE_OF_GPU * memoryBytes;
  const bytesPerValue = bf16Activations ? ACTIVATION_BYTES[precision] : ACTIVATION_BYTES.fp32;
  const fitting = Math.floor(bytes / (bytesPerValue * savedValuesPerSequence(model, name)));
  return Math.max(1, Math.min(batchSequences, fitting));
}
