/** Times training steps of one shape on the active backend, beside the backend's own plain product. */
import { matMul, memory, randomNormal, slice, type Tensor } from '@tensorflow/tfjs-core';
import { randomStream } from '../data/random.js';
import type { ModelConfig } from '../model/config.js';
import { routerNoise } from '../model/noise.js';
import { initialValues } from '../model/parameters.js';
import { Transformer } from '../model/transformer.js';
import { observeKernels } from '../ops/kernel.js';
import { scope } from '../ops/scope.js';
import { flopsPerPass } from '../plan/flops.js';
import { median } from '../statistics.js';
import { AdamW } from '../train/adamw.js';
import { accumulateGradients } from '../train/loss.js';

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
}

/** Trains on random tokens for a few steps and measures. */
export function measureStep(model: ModelConfig, options: StepOptions): StepMeasurement {
  const { batchSequences } = options;
  const transformer = new Transformer(model, initialValues(0));
  const optimizer = new AdamW(transformer.parameters, { weightDecay: 0.1, gradientClip: 1 });
  const batch = randomBatch(model, batchSequences);
  const noise = routerNoise(model, 0, 'training', 0, batchSequences);
  const step = () => {
    const { loss, predictorAccuracy } = accumulateGradients(transformer, batch, noise);
    const norm = optimizer.update(1e-4);
    loss.dataSync(); // waits for the device
    for (const tensor of [loss, predictorAccuracy, norm]) tensor?.dispose();
  };
  for (let i = 0; i < options.warmup; i++) step();
  const before = memory().numTensors;
  const times: number[] = [];
  const productTimes: number[] = [];
  for (let i = 0; i < options.steps; i++) {
    // In turn, so that a machine that slows down slows both.
    productTimes.push(timeProduct(model, batchSequences));
    times.push(timed(step));
  }
  const leakedTensors = memory().numTensors - before;
  const profile = options.profile ? profileStep(step) : null;
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

function randomBatch(model: ModelConfig, sequences: number) {
  const stream = randomStream(0, 'bench');
  const draw = () =>
    Int32Array.from({ length: sequences * model.sequence_length }, () => stream.bits() % model.vocab_size);
  return { sequences, inputs: draw(), targets: draw() };
}

/** Milliseconds of one product [B·T, D]·[D, 4D]: the median of five. */
function timeProduct(model: ModelConfig, sequences: number): number {
  const D = model.d_model;
  return scope(() => {
    const x = randomNormal([sequences * model.sequence_length, D]);
    const w = randomNormal([D, 4 * D]);
    const product = () => {
      const y: Tensor = matMul(x, w);
      // Waits for the device; reading all of y would be timed with the product.
      const first = slice(y, [0, 0], [1, 1]);
      first.dataSync();
      for (const tensor of [first, y]) tensor.dispose();
    };
    product();
    return median(Array.from({ length: 5 }, () => timed(product)));
  });
}

function profileStep(step: () => void): StepMeasurement['profile'] {
  const kernels = new Map<string, { ms: number; calls: number }>();
  observeKernels((kernel, ms) => {
    const sum = kernels.get(kernel) ?? { ms: 0, calls: 0 };
    kernels.set(kernel, { ms: sum.ms + ms, calls: sum.calls + 1 });
  });
  const total = timed(step);
  observeKernels(null);
  const rows = [...kernels].map(([kernel, { ms, calls }]) => ({ kernel, share: ms / total, calls }));
  const inside = rows.reduce((sum, { share }) => sum + share, 0);
  rows.push({ kernel: '(between kernels)', share: 1 - inside, calls: 1 });
  return rows.sort((a, b) => b.share - a.share);
}

function timed(action: () => void): number {
  const started = performance.now();
  action();
  return performance.now() - started;
}
