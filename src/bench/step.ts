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
import type { ModelConfig } from '../model/config.js';
import { flopsPerPass } from '../model/flops.js';
import { initialValues } from '../model/parameters.js';
import { Transformer } from '../model/transformer.js';
import { type KernelCall, observeKernels } from '../ops/kernel.js';
import type { Recorder } from '../ops/recording.js';
import { scope } from '../ops/scope.js';
import { randomStream } from '../random.js';
import { median } from '../statistics.js';
import { createOptimizer } from '../train/optimizers.js';
import { TrainingStep, type TrainingStepOptions } from '../train/step.js';
import { leastMs, type Peak } from './roofline.js';

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
  /** Null unless asked for. */
  profile: StepProfile | null;
}

export interface StepProfile {
  /** Each kernel of the project, the longest first: milliseconds a step, and the least that they could be. */
  kernels: { kernel: string; ms: number; calls: number; leastMs: number | null }[];
  /** Share of a step's time in which the device works at it; null where nothing can tell. */
  busy: number | null;
  /** What `leastMs` is reckoned with. */
  peak: Peak | null;
}

export interface StepOptions {
  batchSequences: number;
  warmup: number;
  steps: number;
  profile: boolean;
  /** Where the backend can record a step, as training uses it. */
  recorder: Recorder | null;
  /** For --profile; null where nobody says. */
  peak: Peak | null;
}

/** Steps that are queued before the host waits, where the backend lets it go ahead: as training does. */
const STEPS_AHEAD = 4;

/** Trains on random tokens for a few steps and measures. */
export async function measureStep(model: ModelConfig, options: StepOptions): Promise<StepMeasurement> {
  const { batchSequences, recorder } = options;
  const transformer = new Transformer(model, initialValues(0));
  const optimizer = createOptimizer(transformer.parameters, { weightDecay: 0.1, gradientClip: 1 });
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
  const stepMs = median(times);
  const profile = options.profile ? await profileStep(whole, batch, options, stepMs) : null;
  optimizer.dispose();
  transformer.dispose();
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

type Whole = Omit<TrainingStepOptions, 'recorder'>;

function profileStep(
  whole: Whole,
  batch: Batch,
  { recorder, peak }: StepOptions,
  stepMs: number,
): Promise<StepProfile> {
  return recorder === null
    ? profileQueued(whole, batch)
    : profileRecorded(whole, batch, recorder, peak, stepMs);
}

/** By wall time, the device waited for after every kernel. */
async function profileQueued(whole: Whole, batch: Batch): Promise<StepProfile> {
  const step = new TrainingStep({ ...whole, recorder: null });
  await step.run(batch, 0, 1e-4);
  const sums = new KernelSums();
  const marker = keep(scalar(0));
  observeKernels(
    ({ kernelName, milliseconds }) => sums.add(kernelName, milliseconds, null),
    () => marker.dataSync(), // read once all before it is done
  );
  const total = await timed(() => step.run(batch, 0, 1e-4));
  observeKernels(null);
  marker.dispose();
  step.dispose();
  sums.add('(between kernels)', total - sums.total, null);
  return { kernels: sums.longestFirst(), busy: null, peak: null };
}

/** By the device's clock within a recorded step: the host waits for nothing. What tfjs' own kernels do counts to the next one. */
async function profileRecorded(
  whole: Whole,
  batch: Batch,
  recorder: Recorder,
  peak: Peak | null,
  stepMs: number,
): Promise<StepProfile> {
  const [duration] = (await intervalsOf(whole, batch, recorder)) as [number];
  const calls: { kernelName: string; least: number | null }[] = [];
  const observer = (call: KernelCall) => {
    const least = peak === null ? null : leastMs(call, (tensor) => recorder.bytesOf(tensor), peak);
    calls.push({ kernelName: call.kernelName, least });
  };
  const intervals = await intervalsOf(whole, batch, recorder, observer);
  const sums = new KernelSums();
  intervals.forEach((ms, i) => {
    const { kernelName, least } = calls[i] ?? { kernelName: '(after the last)', least: null };
    sums.add(kernelName, ms, least);
  });
  return { kernels: sums.longestFirst(), busy: Math.min(1, duration / stepMs), peak };
}

/** Milliseconds between the start of a recorded step, each of its kernels where they are observed, and its end. */
async function intervalsOf(
  whole: Whole,
  batch: Batch,
  recorder: Recorder,
  observer: ((call: KernelCall) => void) | null = null,
): Promise<number[]> {
  const marking: Recorder = {
    record: (body) =>
      recorder.record(() => {
        recorder.mark();
        if (observer !== null) observeKernels(observer, () => recorder.mark());
        try {
          return body();
        } finally {
          observeKernels(null);
          recorder.mark();
        }
      }),
    mark: () => recorder.mark(),
    intervals: () => recorder.intervals(),
    bytesOf: (tensor) => recorder.bytesOf(tensor),
    overwrite: (tensor, values) => recorder.overwrite(tensor, values),
  };
  const step = new TrainingStep({ ...whole, recorder: marking });
  try {
    for (let i = 0; i < 5; i++) await step.run(batch, 0, 1e-4);
    return recorder.intervals();
  } finally {
    step.dispose();
  }
}

/** What a step's kernels take together, by name. */
class KernelSums {
  private readonly sums = new Map<string, StepProfile['kernels'][number]>();

  add(kernel: string, ms: number, least: number | null): void {
    const sum = this.sums.get(kernel) ?? { kernel, ms: 0, calls: 0, leastMs: least === null ? null : 0 };
    const leastSum = least === null || sum.leastMs === null ? null : sum.leastMs + least;
    this.sums.set(kernel, { kernel, ms: sum.ms + ms, calls: sum.calls + 1, leastMs: leastSum });
  }

  get total(): number {
    return this.longestFirst().reduce((total, { ms }) => total + ms, 0);
  }

  longestFirst(): StepProfile['kernels'] {
    return [...this.sums.values()].sort((a, b) => b.ms - a.ms);
  }
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await action();
  return performance.now() - started;
}
