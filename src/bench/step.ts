/** Times training steps of one shape on the active backend, beside the backend's own plain product. */
import {
  concat,
  keep,
  matMul,
  memory,
  randomNormal,
  scalar,
  slice,
  type Tensor,
} from '@tensorflow/tfjs-core';
import type { Batch } from '../data/batches.js';
import { randomStream } from '../data/random.js';
import type { ModelConfig } from '../model/config.js';
import { initialValues } from '../model/parameters.js';
import { Transformer } from '../model/transformer.js';
import { observeKernels } from '../ops/kernel.js';
import type { Recorder } from '../ops/recording.js';
import { scope } from '../ops/scope.js';
import { flopsPerPass } from '../plan/flops.js';
import { median } from '../statistics.js';
import { AdamW } from '../train/adamw.js';
import { TrainingStep } from '../train/step.js';

export interface StepMeasurement {
  /** Median wall time of a step, device work finished, in milliseconds. */
  stepMs: number;
  tokensPerSecond: number;
  /** 3 · FLOPs per pass · sequences, over the step's time. */
  flopsPerSecond: number;
  /** Rate of the plain product [B·T, D]·[D, 4D] on the same backend, measured in the same call. */
  productFlopsPerSecond: number;
  flopsPerPass: number;
  /** Tensors alive after a step, less those alive before it: 0 unless something leaks. */
  leakedTensors: number;
  /** Share of the step in each kernel of the project, largest first; null unless asked for. */
  profile: { kernel: string; share: number; calls: number }[] | null;
}

export interface StepOptions {
  batchSequences: number;
  warmup: number;
  steps: number;
  profile: boolean;
  /** Where the backend can record a step, as training uses it. */
  recorder: Recorder | null;
}

/** Steps that are queued before the host waits, where the backend lets it go ahead: as training does. */
const STEPS_AHEAD = 4;

/** Trains on random tokens for a few steps and measures. */
export async function measureStep(model: ModelConfig, options: StepOptions): Promise<StepMeasurement> {
  const { batchSequences, recorder } = options;
  const transformer = new Transformer(model, initialValues(0));
  const optimizer = new AdamW(transformer.parameters, { weightDecay: 0.1, gradientClip: 1 });
  const batch = randomBatch(model, batchSequences);
  const whole = {
    model: transformer,
    optimizer,
    batchSequences,
    microBatchSequences: batchSequences,
    seed: 0,
  };
  const step = new TrainingStep({ ...whole, recorder });
  const steps = async (count: number) => {
    let last: Promise<unknown> = Promise.resolve();
    for (let i = 0; i < count; i++) last = step.run(batch, 0, 1e-4);
    await last; // waits for the device
  };
  for (let i = 0; i < options.warmup; i++) await steps(1);
  const ahead = recorder === null ? 1 : STEPS_AHEAD;
  const before = memory().numTensors;
  const times: number[] = [];
  const productTimes: number[] = [];
  for (let i = 0; i < options.steps; i++) {
    // In turn, so that a machine that slows down slows both.
    productTimes.push(timeProduct(model, batchSequences));
    times.push((await timed(() => steps(ahead))) / ahead);
  }
  const leakedTensors = memory().numTensors - before;
  step.dispose();
  const profile = options.profile
    ? await profileStep(new TrainingStep({ ...whole, recorder: null }), batch)
    : null;
  optimizer.dispose();
  transformer.dispose();
  const stepMs = median(times);
  const flops = flopsPerPass(model).total;
  const tokens = batchSequences * model.sequence_length;
  return {
    stepMs,
    tokensPerSecond: (tokens * 1000) / stepMs,
    flopsPerSecond: (3 * flops * batchSequences * 1000) / stepMs,
    productFlopsPerSecond: (8 * tokens * model.d_model ** 2 * 1000) / median(productTimes),
    flopsPerPass: flops,
    leakedTensors,
    profile,
  };
}

function randomBatch(model: ModelConfig, sequences: number): Batch {
  const stream = randomStream(0, 'bench');
  const draw = () =>
    Int32Array.from({ length: sequences * model.sequence_length }, () => stream.bits() % model.vocab_size);
  return { sequences, inputs: draw(), targets: draw() };
}

/** Milliseconds of one product [B·T, D]·[D, 4D]: the median of five. */
function timeProduct(model: ModelConfig, sequences: number): number {
  const D = model.d_model;
  return scope(() => {
    // Random rows, but not all different: drawing them would take longer than all the rest.
    const rows: Tensor = randomNormal([model.sequence_length, D]);
    const x: Tensor = concat(new Array<Tensor>(sequences).fill(rows));
    const w: Tensor = randomNormal([D, 4 * D]);
    const product = () =>
      scope(() => {
        slice(matMul(x, w) as Tensor, [0, 0], [1, 1]).dataSync(); // waits for the device, copies next to nothing
      });
    product();
    const times = Array.from({ length: 5 }, () => {
      const started = performance.now();
      product();
      return performance.now() - started;
    });
    return median(times);
  });
}

async function profileStep(step: TrainingStep, batch: Batch): Promise<StepMeasurement['profile']> {
  await step.run(batch, 0, 1e-4);
  const kernels = new Map<string, { ms: number; calls: number }>();
  const marker = keep(scalar(0));
  observeKernels(
    (kernel, ms) => {
      const sum = kernels.get(kernel) ?? { ms: 0, calls: 0 };
      kernels.set(kernel, { ms: sum.ms + ms, calls: sum.calls + 1 });
    },
    () => marker.dataSync(), // read once all before it is done
  );
  const total = await timed(() => step.run(batch, 0, 1e-4));
  observeKernels(null);
  marker.dispose();
  step.dispose();
  const rows = [...kernels].map(([kernel, { ms, calls }]) => ({ kernel, share: ms / total, calls }));
  const inside = rows.reduce((sum, { share }) => sum + share, 0);
  rows.push({ kernel: '(between kernels)', share: 1 - inside, calls: 1 });
  return rows.sort((a, b) => b.share - a.share);
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await action();
  return performance.now() - started;
}
