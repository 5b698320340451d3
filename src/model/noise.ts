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
  phase: 'training' | 'heldout' | 'generation',
  first: number,
  sequences: number,
): ((block: number) => Tensor) | null {
  if (model.routing?.router !== 'random') return null;
  const length = model.sequence_length;
  return (block) => {
    const values = new Float32Array(sequences * length);
    for (let i = 0; i < sequences; i++) {
      const row = values.subarray(i * length, (i + 1) * length);
      randomStream(seed, 'random-router', phase, first + i, block).fillNormal(row, 1);
    }
    return tensor2d(values, [sequences, length]);
  };
}
