/** Times training steps of one shape on the active backend, and a plain matrix product for comparison. */
import { concat, keep, matMul, memory, scalar, slice, type Tensor, tensor } from '@tensorflow/tfjs-core';
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
import { createThresholds } from '../train/router-thresholds.js';
import { TrainingStep, type TrainingStepOptions } from '../train/step.js';
import { type Peak, rooflineMs } from './roofline.js';
import { repeatingValues } from './values.js';

export interface StepMeasurement {
  /** Median wall time of a step in milliseconds, including the device's work. */
  stepMs: number;
  tokensPerSecond: number;
  /** 3 · FLOPs per pass · sequences / step time. */
  flopsPerSecond: number;
  /** Rate of the matrix product [B·T, D]·[D, 4D] on the same backend, timed between the steps. */
  productFlopsPerSecond: number;
  flopsPerPass: number;
  /** Tensors alive after the steps minus those alive before: 0 unless something leaks. */
  leakedTensors: number;
  /** Null unless requested. */
  profile: StepProfile | null;
}

export interface StepProfile {
  /** The project's kernels, slowest first: milliseconds per step, and their roofline time. */
  kernels: { kernel: string; ms: number; calls: number; leastMs: number | null }[];
  /** Share of the step time in which the device is busy; null if unknown. */
  busy: number | null;
  /** The peak rates behind `leastMs`. */
  peak: Peak | null;
}

export interface StepOptions {
  batchSequences: number;
  warmup: number;
  steps: number;
  profile: boolean;
  /** Records steps as in training; null if the backend does not record. */
  recorder: Recorder | null;
  /** For --profile; null if unknown. */
  peak: Peak | null;
}

/** Steps queued before the host waits, on backends that record steps: as in training. */
const STEPS_AHEAD = 4;
/** Milliseconds of a step from which what the host does between two of them no longer matters. */
const LONG_STEP = 500;
/** Milliseconds after which no more steps are timed, unless fewer than LEAST_STEPS are. */
const LONGEST = 30_000;
const LEAST_STEPS = 3;

/** Trains on random tokens for a few steps and times them. */
export async function measureStep(model: ModelConfig, options: StepOptions): Promise<StepMeasurement> {
  const { batchSequences, recorder } = options;
  const transformer = new Transformer(model, repeatingValues(initialValues(0)));
  const optimizer = createOptimizer(transformer.parameters, { weightDecay: 0.1, gradientClip: 1 });
  const batch = randomBatch(model, batchSequences);
  const thresholds = createThresholds(model, batchSequences);
  const trainingOptions = {
    model: transformer,
    optimizer,
    batchSequences,
    microBatchSequences: batchSequences,
    seed: 0,
    thresholds,
  };
  const step = new TrainingStep({ ...trainingOptions, recorder });
  const steps = async (count: number) => {
    let last: Promise<unknown> = Promise.resolve();
    for (let i = 0; i < count; i++) last = step.run(batch, 0, 1e-4);
    await last; // waits for the device
  };
  let warmMs = 0;
  for (let i = 0; i < options.warmup; i++) warmMs = await timed(() => steps(1));
  const ahead = recorder === null || warmMs > LONG_STEP ? 1 : STEPS_AHEAD;
  const before = memory().numTensors;
  const times: number[] = [];
  const productTimes: number[] = [];
  const started = performance.now();
  const isLate = () => times.length >= LEAST_STEPS && performance.now() - started > LONGEST;
  while (times.length < options.steps && !isLate()) {
    // Alternating, so that a slowdown of the machine affects both.
    productTimes.push(timeProduct(model, batchSequences));
    times.push((await timed(() => steps(ahead))) / ahead);
  }
  const leakedTensors = memory().numTensors - before;
  step.dispose();
  const stepMs = median(times);
  const profile = options.profile ? await profileStep(trainingOptions, batch, options, stepMs) : null;
  thresholds?.dispose();
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

/** Milliseconds of one product [B·T, D]·[D, 4D]: the median of five. Its values repeat: drawing them all takes seconds. */
function timeProduct(model: ModelConfig, sequences: number): number {
  const D = model.d_model;
  const values = repeatingValues(initialValues(0));
  return scope(() => {
    const random = (name: string, rows: number, columns: number): Tensor =>
      tensor(values({ name, shape: [rows, columns], init: { kind: 'normal', std: 1 } }), [rows, columns]);
    const rows = random('rows', model.sequence_length, D);
    const x: Tensor = concat(new Array<Tensor>(sequences).fill(rows));
    const w = random('w', D, 4 * D);
    const product = () =>
      scope(() => {
        slice(matMul(x, w) as Tensor, [0, 0], [1, 1]).dataSync(); // waits for the device, copies one value
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

type ProfiledTraining = Omit<TrainingStepOptions, 'recorder'>;

function profileStep(
  training: ProfiledTraining,
  batch: Batch,
  { recorder, peak }: StepOptions,
  stepMs: number,
): Promise<StepProfile> {
  return recorder === null
    ? profileQueued(training, batch)
    : profileRecorded(training, batch, recorder, peak, stepMs);
}

/** Profiles by wall time, waiting for the device after every kernel. */
async function profileQueued(training: ProfiledTraining, batch: Batch): Promise<StepProfile> {
  const step = new TrainingStep({ ...training, recorder: null });
  await step.run(batch, 0, 1e-4);
  const sums = new KernelSums();
  const marker = keep(scalar(0));
  observeKernels(
    ({ kernelName, milliseconds }) => sums.add(kernelName, milliseconds, null),
    () => marker.dataSync(), // waits for the device: the read follows all earlier work
  );
  const total = await timed(() => step.run(batch, 0, 1e-4));
  observeKernels(null);
  marker.dispose();
  step.dispose();
  sums.add('(between kernels)', total - sums.total, null);
  return { kernels: sums.longestFirst(), busy: null, peak: null };
}

/** Profiles by the device's clock within a recorded step, without host waits. The time of tfjs' kernels counts towards the next one. */
async function profileRecorded(
  training: ProfiledTraining,
  batch: Batch,
  recorder: Recorder,
  peak: Peak | null,
  stepMs: number,
): Promise<StepProfile> {
  const [duration] = (await intervalsOf(training, batch, recorder)) as [number];
  const calls: { kernelName: string; least: number | null }[] = [];
  const observer = (call: KernelCall) => {
    const least = peak === null ? null : rooflineMs(call, (tensor) => recorder.bytesOf(tensor), peak);
    calls.push({ kernelName: call.kernelName, least });
  };
  const intervals = await intervalsOf(training, batch, recorder, observer);
  const sums = new KernelSums();
  intervals.forEach((ms, i) => {
    const { kernelName, least } = calls[i] ?? { kernelName: '(after the last)', least: null };
    sums.add(kernelName, ms, least);
  });
  return { kernels: sums.longestFirst(), busy: Math.min(1, duration / stepMs), peak };
}

/** Milliseconds between the start of a recorded step, the end of each kernel if an observer is given, and the step's end. */
async function intervalsOf(
  training: ProfiledTraining,
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
  const step = new TrainingStep({ ...training, recorder: marking });
  try {
    for (let i = 0; i < 5; i++) await step.run(batch, 0, 1e-4);
    return recorder.intervals();
  } finally {
    step.dispose();
  }
}

/** Total time of a step's kernels, by name. */
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
