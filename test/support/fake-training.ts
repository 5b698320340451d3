/** Training steps of a shape on the fake driver: the memory and the calls of real steps, without weights or tokens. */
import { CudaRecorder } from '../../src/backends/cuda/driver/recorder.js';
import { parseShape } from '../../src/bench/shape.js';
import type { Batch } from '../../src/data/batches.js';
import type { TensorSource } from '../../src/model/parameters.js';
import { Transformer } from '../../src/model/transformer.js';
import { createOptimizer } from '../../src/train/optimizers.js';
import { createThresholds } from '../../src/train/router-thresholds.js';
import { TrainingStep } from '../../src/train/step.js';
import type { FakeCuda } from './fake-cuda.js';

const LARGEST_TENSOR = 2 ** 27;
let zeros: Float32Array | null = null;

/** Zeros for every tensor, in memory that is not written and so takes no pages. */
export const zeroWeights: TensorSource = ({ shape }) => {
  zeros ??= new Float32Array(LARGEST_TENSOR);
  return zeros.subarray(
    0,
    shape.reduce((product, side) => product * side, 1),
  );
};

/** A batch of one token. */
export function zeroBatch(sequences: number, length: number): Batch {
  const tokens = () => new Int32Array(sequences * length);
  return { sequences, inputs: tokens(), targets: tokens() };
}

export interface FakeTraining {
  model: Transformer;
  step: TrainingStep;
  /** Trains steps of the whole batch; from the third on they are recorded. */
  run: (steps: number) => Promise<void>;
  dispose: () => void;
}

/**
 * A model and its training step.
 *
 * @param shape of `mod bench`, such as d768l12t2048b32v32768c0.125f2
 */
export function fakeTraining({ backend }: FakeCuda, shape: string, microBatch?: number): FakeTraining {
  const { model: config, batchSequences } = parseShape(shape);
  const model = new Transformer(config, zeroWeights);
  const optimizer = createOptimizer(model.parameters, { weightDecay: 0.1, gradientClip: 1 });
  const thresholds = createThresholds(config, batchSequences);
  const step = new TrainingStep({
    model,
    optimizer,
    batchSequences,
    microBatchSequences: microBatch ?? batchSequences,
    seed: 0,
    recorder: new CudaRecorder(backend),
    thresholds,
  });
  const batch = zeroBatch(batchSequences, config.sequence_length);
  return {
    model,
    step,
    run: async (steps) => {
      for (let i = 0; i < steps; i++) await step.run(batch, 0, 1e-3);
    },
    dispose: () => {
      step.dispose();
      thresholds?.dispose();
      optimizer.dispose();
      model.dispose();
    },
  };
}
