/** Training steps of a shape on the fake driver: the memory and the calls of real steps, without weights or tokens. */
import { CudaRecorder } from '../../src/backends/cuda/driver/recorder.js';
import { parseShape } from '../../src/bench/shape.js';
import type { Batch } from '../../src/data/batches.js';
import type { ModelConfig } from '../../src/model/config.js';
import type { TensorSource } from '../../src/model/parameters.js';
import { Transformer } from '../../src/model/transformer.js';
import { createOptimizer } from '../../src/train/optimizers.js';
import { createThresholds } from '../../src/train/router-thresholds.js';
import { TrainingStep } from '../../src/train/step.js';
import type { FakeCuda } from './fake-cuda.js';

/** Leaves every tensor at zero: the memory of a large model's weights is reserved by the process, but never written. */
const noWeights: TensorSource = () => new Float32Array(0);

/** A model on the fake driver. Its weights are not copied, since the device does not read them. */
export function fakeModel({ backend }: Pick<FakeCuda, 'backend'>, config: ModelConfig): Transformer {
  const { upload } = backend;
  backend.upload = (to, bytes) => backend.driver.copyToDevice(to, 0, bytes.length);
  try {
    return new Transformer(config, noWeights);
  } finally {
    backend.upload = upload;
  }
}

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
export function fakeTraining(
  { backend }: Pick<FakeCuda, 'backend'>,
  shape: string,
  microBatch?: number,
): FakeTraining {
  const { model: config, batchSequences } = parseShape(shape);
  const model = fakeModel({ backend }, config);
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
