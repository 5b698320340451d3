/** The micro-batch: how many sequences pass through the model at once, estimated from the backend's memory. */
import { BACKENDS, type BackendName } from '../backends/names.js';
import type { Precision } from '../backends/precisions.js';
import { blockTokens, expertSlots, isRouted, type ModelConfig } from './config.js';
import { parameterCounts } from './parameter-count.js';

/** The properties of a backend that the estimate depends on. */
export interface MicroBatchBackend {
  name: BackendName;
  precision: Precision;
  /** Bytes of the GPU's memory that are there to be used; null for a backend that computes in the machine's memory. */
  memoryBytes: number | null;
}

/** Bytes of an activation on a backend whose activations follow the precision. */
const ACTIVATION_BYTES: Record<Precision, number> = { fp32: 4, bf16: 2 };
/** Bytes of a parameter on a GPU: its value, gradient and AdamW's two moments in float32; in bf16 also its copy for products. */
const PARAMETER_BYTES: Record<Precision, number> = { fp32: 16, bf16: 18 };
/** Share of a GPU's memory for a step. The rest is for compiled kernels, graphs and blocks that do not fit together. */
const SHARE_OF_GPU = 0.88;

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

/**
 * Sequences of a micro-batch, from 1 to the batch: an estimate that is halved when the device runs out of memory. The
 * micro-batches of a batch are as equal as they can be.
 */
export function microBatchSequences(
  model: ModelConfig,
  batchSequences: number,
  { name, precision, memoryBytes }: MicroBatchBackend,
): number {
  const { activationBytes, bf16Activations } = BACKENDS[name];
  const states = PARAMETER_BYTES[precision] * parameterCounts(model).total;
  const bytes = memoryBytes === null ? activationBytes : SHARE_OF_GPU * memoryBytes - states;
  const bytesPerValue = bf16Activations ? ACTIVATION_BYTES[precision] : ACTIVATION_BYTES.fp32;
  const fitting = Math.floor(bytes / (bytesPerValue * savedValuesPerSequence(model, name)));
  if (Number.isNaN(fitting)) throw new Error(`the memory of backend ${name} is not a number of bytes`);
  return evenMicroBatch(batchSequences, Math.max(1, fitting));
}

/** The largest of the micro-batches when a batch is split as evenly as possible into parts of `most` sequences or fewer. */
export function evenMicroBatch(batchSequences: number, most: number): number {
  return Math.ceil(batchSequences / microBatchCount(batchSequences, most));
}

/** Sizes of the micro-batches of a batch, the larger ones first; they differ by 1 at most, and none is above `most`. */
export function microBatchSizes(batchSequences: number, most: number): number[] {
  const count = microBatchCount(batchSequences, most);
  const end = (i: number) => Math.ceil((i * batchSequences) / count);
  return Array.from({ length: count }, (_, i) => end(i + 1) - end(i));
}

function microBatchCount(batchSequences: number, most: number): number {
  if (!(most >= 1)) throw new RangeError(`a micro-batch of ${most} sequences: at least 1 is required`);
  return Math.ceil(batchSequences / most);
}
