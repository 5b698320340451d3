/** The random router's weights: N(0, 1) for every token, known by seed, sequence and block alone. */
import { type Tensor, tensor1d } from '@tensorflow/tfjs-core';
import { normalDrawsKernel } from '../ops/normal-draws.js';
import { randomStream } from '../random.js';
import type { ModelConfig } from './config.js';

export type NoisePhase = 'training' | 'heldout';

/** Two words that are one block's own, for NormalDraws. */
export function routerKey(seed: number, phase: NoisePhase, block: number): Int32Array {
  const stream = randomStream(seed, 'random-router', phase, block);
  return Int32Array.of(stream.bits(), stream.bits());
}

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
  return (block) => {
    const key = tensor1d(routerKey(seed, phase, block), 'int32');
    const start = tensor1d([first], 'int32');
    const [draws] = normalDrawsKernel({ key, first: start }, { sequences, length: model.sequence_length });
    key.dispose();
    start.dispose();
    return draws;
  };
}
