/** One training step on the device: gradients of all micro-batches, then the update; recorded once where that is possible. */
import { keep, type Tensor, tensor } from '@tensorflow/tfjs-core';
import type { Batch } from '../data/batches.js';
import { isRouted } from '../model/config.js';
import { routerKey } from '../model/noise.js';
import type { Transformer } from '../model/transformer.js';
import { normalDrawsKernel } from '../ops/normal-draws.js';
import type { Recorder, Recording } from '../ops/recording.js';
import { scope } from '../ops/scope.js';
import type { AdamW } from './adamw.js';
import { type ExpertShares, expertShares } from './expert-shares.js';
import { type BatchMetrics, backpropagate } from './loss.js';

export interface StepMetrics {
  /** LM loss of the batch, before the update, in nats a token. */
  loss: number;
  predictorAccuracy: number | null;
  /** Null without experts. */
  experts: ExpertShares | null;
  /** Global gradient norm before clipping. */
  gradNorm: number;
}

export interface TrainingStepOptions {
  model: Transformer;
  optimizer: AdamW;
  batchSequences: number;
  /** Sequences that pass through the model at once. */
  microBatchSequences: number;
  /** The run's seed, for the random router's draws. */
  seed: number;
  /** Null: every step is queued op by op. */
  recorder: Recorder | null;
}

/** Steps queued op by op before one is recorded: by then everything that is made once has been made. */
const STEPS_BEFORE_RECORDING = 2;

/** A tensor that the device work reads, with new values for every step: in its place where the work is recorded. */
class StepInput {
  private current: Tensor | null = null;

  constructor(
    private readonly shape: number[],
    private readonly recorder: Recorder | null,
  ) {}

  get tensor(): Tensor {
    if (this.current === null) throw new Error('a step was not given its numbers');
    return this.current;
  }

  set(values: Float32Array | Int32Array): void {
    if (this.recorder !== null && this.current !== null) {
      this.recorder.overwrite(this.current, values);
      return;
    }
    this.dispose();
    const dtype = values instanceof Int32Array ? 'int32' : 'float32';
    this.current = keep(tensor(values, this.shape, dtype));
  }

  dispose(): void {
    this.current?.dispose();
    this.current = null;
  }
}

interface MicroBatch {
  first: number;
  sequences: number;
  inputs: StepInput;
  targets: StepInput;
  /** The number of its first sequence [1], for `router: random`; else null. */
  drawnFrom: StepInput | null;
}

export class TrainingStep {
  private readonly microBatches: MicroBatch[] = [];
  /** As AdamW takes it. */
  private readonly schedule: StepInput;
  /** What the router weights of each block are drawn by, for `router: random`; else none. */
  private readonly drawKeys: ReadonlyMap<number, StepInput>;
  private recording: Recording | null = null;
  private steps = 0;

  constructor(private readonly options: TrainingStepOptions) {
    const { batchSequences, microBatchSequences, recorder, seed } = options;
    const { config } = options.model;
    this.schedule = new StepInput([3], recorder);
    const random = config.routing?.router === 'random';
    const drawn = Array.from({ length: config.n_layers }, (_, block) => block).filter(
      (block) => random && isRouted(config, block),
    );
    this.drawKeys = new Map(drawn.map((block) => [block, new StepInput([2], recorder)]));
    for (const [block, key] of this.drawKeys) key.set(routerKey(seed, 'training', block));
    for (let first = 0; first < batchSequences; first += microBatchSequences) {
      const sequences = Math.min(microBatchSequences, batchSequences - first);
      const input = () => new StepInput([sequences, config.sequence_length], recorder);
      const drawnFrom = random ? new StepInput([1], recorder) : null;
      this.microBatches.push({ first, sequences, inputs: input(), targets: input(), drawnFrom });
    }
  }

  /**
   * Queues a step; its metrics arrive when the device has come so far. The batch's sequences are numbered from
   * `firstSequence` on. Where it fails, by DeviceMemoryError for one, no parameter has changed and no step is counted.
   */
  run(batch: Batch, firstSequence: number, learningRate: number): Promise<StepMetrics> {
    const { optimizer, recorder, model } = this.options;
    const before = optimizer.step;
    try {
      this.supply(batch, firstSequence);
      this.schedule.set(Float32Array.from(optimizer.nextSchedule(learningRate)));
      this.steps += 1;
      if (recorder === null || this.steps <= STEPS_BEFORE_RECORDING) {
        const outputs = scope(() => this.work().map((output) => keep(output)));
        const metrics = this.read(outputs);
        for (const output of outputs) output.dispose();
        return metrics;
      }
      this.recording ??= recorder.record(() => this.work());
      this.recording.replay();
      return this.read(this.recording.outputs);
    } catch (error) {
      optimizer.step = before;
      for (const parameter of model.parameters) parameter.clearGrad();
      throw error;
    }
  }

  dispose(): void {
    this.recording?.dispose();
    this.recording = null;
    this.schedule.dispose();
    for (const key of this.drawKeys.values()) key.dispose();
    for (const { inputs, targets, drawnFrom } of this.microBatches) {
      for (const input of [inputs, targets, drawnFrom]) input?.dispose();
    }
  }

  /** Puts a batch where the device work reads it. */
  private supply(batch: Batch, firstSequence: number): void {
    const T = this.options.model.config.sequence_length;
    for (const { first, sequences, inputs, targets, drawnFrom } of this.microBatches) {
      inputs.set(batch.inputs.subarray(first * T, (first + sequences) * T));
      targets.set(batch.targets.subarray(first * T, (first + sequences) * T));
      drawnFrom?.set(Int32Array.of(firstSequence + first));
    }
  }

  /** The device work: the gradient norm, each micro-batch's loss, then each one's predictor accuracy and expert counts, if any. */
  private work(): Tensor[] {
    const { model, optimizer, batchSequences } = this.options;
    const metrics = this.microBatches.map(({ sequences, inputs, targets, drawnFrom }): BatchMetrics => {
      const noise = drawnFrom === null ? null : this.draws(drawnFrom.tensor, sequences);
      // Handles of their own, since a tape frees what it saved.
      const [tokens, next] = [inputs.tensor.clone(), targets.tensor.clone()];
      return backpropagate(model, tokens, next, noise, sequences / batchSequences);
    });
    const losses = metrics.map(({ loss }) => loss);
    const norm = optimizer.apply(this.schedule.tensor, losses);
    const accuracies = metrics.flatMap(({ predictorAccuracy }) => predictorAccuracy ?? []);
    const counts = metrics.flatMap(({ expertCounts }) => expertCounts ?? []);
    return [norm, ...losses, ...accuracies, ...counts];
  }

  /** Router weights [sequences, T] of a block, for the sequences from `first` on. */
  private draws(first: Tensor, sequences: number): (block: number) => Tensor {
    const length = this.options.model.config.sequence_length;
    return (block) => {
      const key = (this.drawKeys.get(block) as StepInput).tensor;
      return normalDrawsKernel({ key, first }, { sequences, length })[0];
    };
  }

  /** Queues the copies of the metrics to the host, so that later steps may overwrite them. */
  private async read(outputs: Tensor[]): Promise<StepMetrics> {
    const all = await Promise.all(outputs.map(async (output) => (await output.data()) as Float32Array));
    const { batchSequences, model } = this.options;
    const { experts } = model.config;
    const counts = experts === null ? [] : all.splice(-this.microBatches.length);
    const [gradNorm, ...rest] = all.map(([value]) => value) as [number, ...number[]];
    const mean = (parts: number[]) =>
      this.microBatches.reduce(
        (sum, { sequences }, i) => sum + (sequences / batchSequences) * (parts[i] as number),
        0,
      );
    const accuracies = rest.slice(this.microBatches.length);
    return {
      loss: mean(rest),
      predictorAccuracy: accuracies.length === 0 ? null : mean(accuracies),
      experts: experts === null ? null : expertShares(added(counts), experts),
      gradNorm,
    };
  }
}

/** Elementwise sum of rows of one length. */
function added(rows: readonly Float32Array[]): Float64Array {
  const [first] = rows as [Float32Array];
  return Float64Array.from(first, (_, i) => rows.reduce((sum, row) => sum + (row[i] as number), 0));
}
