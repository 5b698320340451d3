/** The random router's weights: N(0, 1) for every token, known by seed, sequence and block alone. */
import { type Tensor, tensor2d } from '@tensorflow/tfjs-core';
import { randomStream } from '../data/random.js';
import type { ModelConfig } from './config.js';

/**
 * What a model's forward pass asks for: r [sequences, T] of a block, for sequences first, first + 1, ... of a phase.
 * However the sequences are batched, each gets the same draws. Null for a model that routes otherwise.
 */
export function routerNoise(
  model: ModelConfig,
  seed: number,
  phase: NoisePhase,
  first: number,
  sequences: number,
): ((block: number) => Tensor) | null {
  if (model.routing?.router !== 'random') return null;
  return (block) =>
    tensor2d(routerDraws(model, seed, phase, first, sequences, block), [sequences, model.sequence_length]);
}

export type NoisePhase = 'training' | 'heldout' | 'generation';

/** The draws of one block, as numbers: [sequences, T], row by row. */
export function routerDraws(
  model: ModelConfig,
  seed: number,
  phase: NoisePhase,
  first: number,
  sequences: number,
  block: number,
): Float32Array {
  const length = model.sequence_length;
  const values = new Float32Array(sequences * length);
  for (let i = 0; i < sequences; i++) {
    const row = values.subarray(i * length, (i + 1) * length);
    randomStream(seed, 'random-router', phase, first + i, block).fillNormal(row, 1);
  }
  return values;
}
