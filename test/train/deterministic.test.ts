/** Training is bitwise reproducible on every backend, with and without threads. */
import { describe, expect, it } from 'vitest';
import { initialValues } from '../../src/model/parameters.js';
import { Transformer } from '../../src/model/transformer.js';
import { accumulateGradients } from '../../src/train/loss.js';
import { createOptimizer } from '../../src/train/optimizers.js';
import { FAST_BACKENDS, useBackend } from '../support/backends.js';
import { modelConfig } from '../support/model-config.js';
import { updateOnce } from '../support/optimizer.js';

/** Large enough that products and sums are divided among threads, and that attention takes several blocks. */
const MODEL = modelConfig({
  vocab_size: 256,
  d_model: 128,
  sequence_length: 200,
  routing: { aux_loss_weight: 0.01, predictor_hidden: 16 },
});
const SEQUENCES = 4;

/** The weights after three steps of two micro-batches each. */
function trained(): Float32Array[] {
  const model = new Transformer(MODEL, initialValues(0));
  const optimizer = createOptimizer(model.parameters, { weightDecay: 0.1, gradientClip: 1 });
  const tokens = Int32Array.from({ length: SEQUENCES * MODEL.sequence_length }, (_, i) => (i * 7919) % 251);
  for (let step = 0; step < 3; step++) {
    for (let part = 0; part < 2; part++) {
      const batch = { sequences: SEQUENCES, inputs: tokens, targets: tokens.map((id) => (id + part) % 256) };
      const { loss, predictorAccuracy } = accumulateGradients(model, batch, null, 0.5);
      loss.dispose();
      predictorAccuracy?.dispose();
    }
    updateOnce(optimizer, 1e-3).dispose();
  }
  const weights = model.parameters.map(({ value }) => value.dataSync() as Float32Array);
  optimizer.dispose();
  model.dispose();
  return weights;
}

describe.each(FAST_BACKENDS)('on %s', (backend) => {
  it('two equal trainings end with bitwise equal weights', async () => {
    await useBackend(backend);
    expect(trained()).toEqual(trained());
  });
});
