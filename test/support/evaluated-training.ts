/** Training that evaluates while it runs and at its end, on tokens that are all 0: for tests of memory. */

import type { CudaBackend } from '../../src/backends/cuda/backend.js';
import { CudaRecorder } from '../../src/backends/cuda/driver/recorder.js';
import { HeldoutWindows, TrainingBatches } from '../../src/data/batches.js';
import type { TokenSource } from '../../src/data/token-source.js';
import { evaluate } from '../../src/eval/heldout.js';
import type { Transformer } from '../../src/model/transformer.js';
import type { RunSpec } from '../../src/plan/run.js';
import { createOptimizer } from '../../src/train/optimizers.js';
import { train } from '../../src/train/trainer.js';

export const zeroTokens = (tokens: number): TokenSource => ({
  tokens,
  files: [],
  read: (_, out) => out.fill(0),
  close: () => undefined,
});

export interface Evaluated {
  /** Micro-batches: the first, then each that was reduced to. */
  microBatches: number[];
  /** Held-out losses that were computed, the last one at the end. */
  losses: number[];
}

/** Trains a model for a few steps with two evaluations, and evaluates it as at the end of a run. */
export async function trainAndEvaluate(
  backend: CudaBackend,
  model: Transformer,
  batchSequences: number,
  microBatch: number,
): Promise<Evaluated> {
  const { config } = model;
  const spec = {
    model: config,
    batch_sequences: batchSequences,
    steps: 4,
    seed: 0,
    training: { learning_rate: 1e-3 },
    evaluation: { every_steps: 3 },
  } as RunSpec;
  const optimizer = createOptimizer(model.parameters, { weightDecay: 0.1, gradientClip: 1 });
  const windows = new HeldoutWindows(
    zeroTokens(batchSequences * config.sequence_length + 1),
    config.sequence_length,
  );
  const microBatches = [microBatch];
  const losses: number[] = [];
  const heldoutLoss = async (freeMemory?: () => void) => {
    const batch = { mode: 'topk', batchSequences: microBatches.at(-1) as number, seed: 0 } as const;
    const free = freeMemory === undefined ? {} : { freeMemory };
    const { loss } = await evaluate(model, windows, { ...batch, ...free, sequences: batch.batchSequences });
    losses.push(loss);
    return loss;
  };
  try {
    const outcome = await train({
      spec,
      model,
      optimizer,
      batches: new TrainingBatches(
        zeroTokens(8 * batchSequences * config.sequence_length),
        config.sequence_length,
        0,
      ),
      microBatchSequences: microBatch,
      recorder: new CudaRecorder(backend),
      onMicroBatch: (sequences) => microBatches.push(sequences),
      onStep: () => undefined,
      heldoutLoss,
      now: () => 0,
    });
    if (outcome.kind !== 'done') throw new Error(`training ended as ${outcome.kind}`);
    await heldoutLoss();
  } finally {
    optimizer.dispose();
  }
  return { microBatches, losses };
}
