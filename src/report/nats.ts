/** Bits per byte of models of bytes: the unit in which models with different tokenizers are compared. */
import type { RunSpec } from '../plan/run.js';

/** A loss in bits per byte; null if a token is not a byte, or the loss is unknown. */
export function bitsPerByte(nats: number | null, { data }: Pick<RunSpec, 'data'>): number | null {
  return nats === null || data.tokenizer !== 'bytes' ? null : nats / Math.LN2;
}

/** `0.5806 nats (0.8376 bits per byte)`. */
export function lossText(nats: number, spec: Pick<RunSpec, 'data'>): string {
  const bits = bitsPerByte(nats, spec);
  return `${nats.toFixed(4)} nats${bits === null ? '' : ` (${bits.toFixed(4)} bits per byte)`}`;
}
