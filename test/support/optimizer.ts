/** An optimizer update without a training step. */
import { type Tensor, tensor1d } from '@tensorflow/tfjs-core';
import type { Optimizer } from '../../src/train/optimizer.js';

/** One update from the accumulated gradients. Returns the gradient norm, which the caller disposes. */
export function updateOnce(optimizer: Optimizer, learningRate: number): Tensor {
  const schedule = tensor1d(optimizer.nextSchedule(learningRate), 'float32');
  const norm = optimizer.apply(schedule, []);
  schedule.dispose();
  return norm;
}
