/** The room that checkpoints take on the disk. */

/** Weights and AdamW's two moments, each in float32. */
const BYTES_PER_PARAMETER = 3 * 4;
/** config.json, state.json, the heads of the two safetensors files: well under this. */
const SMALL_FILES = 64 * 1024;

/** Bytes of one checkpoint that training can be resumed from: config.json, weights, optimizer, state. */
export function checkpointBytes(parameters: number): number {
  return parameters * BYTES_PER_PARAMETER + SMALL_FILES;
}
