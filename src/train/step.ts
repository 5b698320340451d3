/** One training step on the device: gradients of all micro-batches, then the update; recorded once if the backend can. */
import { keep, type Tensor, tensor } from '@tensorflow/tfjs-core';
import type { Batch } from '../data/batches.js';
import { routedBlocks } from '../model/config.js';
import { microBatchSizes } from '../model/memory.js';
import { type DrawnWeights, ROUTERS, type RouterDraws } from '../model/routers.js';
import type { Transformer } from '../model/transformer.js';
import type { Recorder, Recording } from '../ops/recording.js';
import { scope } from '../ops/scope.js';
import { type ExpertShares, expertShares } from './expert-shares.js';
import { type BatchMetrics, backpropagate } from './loss.js';
import type { Optimizer } from './optimizer.js';
import type { RouterThresholds } from './router-thresholds.js';

export interface StepMetrics {
  /** LM loss of the batch, before the update, in nats per token. */
  loss: number;
  predictorAccuracy: number | null;
  /** Null without experts. */
  experts: ExpertShares | null;
  /** Global gradient norm before clipping. */
  gradNorm: number;
}

export interface TrainingStepOptions {
  model: Transformer;
  optimizer: Optimizer;
  batchSequences: number;
  /** Sequences that pass through the model at once, at most: the batch is split evenly. */
  microBatchSequences: number;
  /** The run's seed, for routers that draw their weights. */
  seed: number;
  /** Null if the backend cannot record: every step is queued op by op. */
  recorder: Recorder | null;
  /** The running quantiles of the routed blocks; absent or null: none. */
  thresholds?: RouterThresholds | null;
}

/** Steps queued op by op before one is recorded: they allocate what later steps reuse. */
const STEPS_BEFORE_RECORDING = 2;

/** An input tensor of the device work whose values change in every step; a recorded step reads it at a fixed address. */
class StepInput {
  private current: Tensor | null = null;

  constructor(
    private readonly shape: number[],
    private readonly recorder: Recorder | null,
  ) {}

  get tensor(): Tensor {
    if (this.current === null) throw new Error('a step input was read before it was set');
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
  /** Index of its first sequence in the batch. */
  first: number;
  sequences: number;
  inputs: StepInput;
  targets: StepInput;
  /** The number of its first sequence in the run [1], for a router that draws its weights; else null. */
  firstSequence: StepInput | null;
}

export class TrainingStep {
  private readonly microBatches: MicroBatch[] = [];
  /** The schedule that `Optimizer.apply` reads. */
  private readonly schedule: StepInput;
  /** How the router draws its weights; null for a router that draws none. */
  private readonly draws: RouterDraws | null;
  /** The key of each routed block's draws; empty without draws. */
  private readonly drawKeys: ReadonlyMap<number, StepInput>;
  private recording: Recording | null = null;
  private steps = 0;

  constructor(private readonly options: TrainingStepOptions) {
    const { batchSequences, microBatchSequences, optimizer, recorder, seed } = options;
    const { config } = options.model;
    this.schedule = new StepInput([optimizer.scheduleLength], recorder);
    this.draws = config.routing === null ? null : ROUTERS[config.routing.router].draws;
    const keys = new Map<number, StepInput>();
    if (this.draws !== null) {
      for (const block of routedBlocks(config)) {
        const key = new StepInput([2], recorder);
        key.set(this.draws.key(seed, 'training', block));
        keys.set(block, key);
      }
    }
    this.drawKeys = keys;
    let first = 0;
    for (const sequences of microBatchSizes(batchSequences, microBatchSequences)) {
      const input = () => new StepInput([sequences, config.sequence_length], recorder);
      const firstSequence = this.draws === null ? null : new StepInput([1], recorder);
      this.microBatches.push({ first, sequences, inputs: input(), targets: input(), firstSequence });
      first += sequences;
    }
  }

  /**
   * Queues a step; its metrics resolve when the device has finished it. The batch's sequences are numbered from
   * `firstSequence` on. On an error, such as DeviceMemoryError, no parameter has changed and no step is counted.
   */
  run(batch: Batch, firstSequence: number, learningRate: number): Promise<StepMetrics> {
    const { optimizer, recorder, model } = this.options;
    const before = optimizer.step;
    try {
      this.setInputs(batch, firstSequence);
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

  /** Frees the memory of the recorded step, which no step may be using; the next step is recorded again. */
  freeRecording(): void {
    this.recording?.dispose();
    this.recording = null;
  }

  dispose(): void {
    this.freeRecording();
    this.schedule.dispose();
    for (const key of this.drawKeys.values()) key.dispose();
    for (const { inputs, targets, firstSequence } of this.microBatches) {
      for (const input of [inputs, targets, firstSequence]) input?.dispose();
    }
  }

  /** Writes a batch to the inputs of the device work. */
  private setInputs(batch: Batch, firstSequence: number): void {
    const T = this.options.model.config.sequence_length;
    for (const { first, sequences, inputs, targets, firstSequence: input } of this.microBatches) {
      inputs.set(batch.inputs.subarray(first * T, (first + sequences) * T));
      targets.set(batch.targets.subarray(first * T, (first + sequences) * T));
      input?.set(Int32Array.of(firstSequence + first));
    }
  }

  /** The device work. Returns the gradient norm, then all losses, predictor accuracies and expert counts of the micro-batches. */
  private work(): Tensor[] {
    const { model, optimizer, batchSequences, thresholds } = this.options;
    const metrics = this.microBatches.map((microBatch): BatchMetrics => {
      const { first, sequences, inputs, targets, firstSequence } = microBatch;
      const drawn = firstSequence === null ? null : this.drawnWeights(firstSequence.tensor, sequences);
      // Clones, since a tape disposes the tensors that it saved.
      const [tokens, next] = [inputs.tensor.clone(), targets.tensor.clone()];
      return backpropagate(model, tokens, next, drawn, sequences / batchSequences, (routed) =>
        thresholds?.observe(routed, first),
      );
    });
    const losses = metrics.map(({ loss }) => loss);
    const norm = optimizer.apply(this.schedule.tensor, losses);
    thresholds?.update(norm);
    const accuracies = metrics.flatMap(({ predictorAccuracy }) => predictorAccuracy ?? []);
    const counts = metrics.flatMap(({ expertCounts }) => expertCounts ?? []);
    return [norm, ...losses, ...accuracies, ...counts];
  }

  /** Router weights [sequences, T] of each block, for the sequences from `first` [1] on. */
  private drawnWeights(first: Tensor, sequences: number): DrawnWeights {
    const length = this.options.model.config.sequence_length;
    return (block) => {
      const key = this.drawKeys.get(block);
      if (this.draws === null || key === undefined) throw new Error(`block ${block} draws no router weights`);
      return this.draws.weights(key.tensor, first, sequences, length);
    };
  }

  /** Queues copies of the metrics to the host at once, since later steps may overwrite the outputs. */
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
      experts: experts === null ? null : expertShares(elementwiseSum(counts), experts),
      gradNorm,
    };
  }
}

/** The sum of rows of equal length, column by column. */
function elementwiseSum(rows: readonly Float32Array[]): Float64Array {
  const [first] = rows as [Float32Array];
  return Float64Array.from(first, (_, i) => rows.reduce((sum, row) => sum + (row[i] as number), 0));
}
