/** The training loop of one run: batches in, a row a step out. It knows no files and no processes. */
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Batch, TrainingBatches } from '../data/batches.js';
import { routerNoise } from '../model/noise.js';
import type { Transformer } from '../model/transformer.js';
import type { RunSpec } from '../plan/run.js';
import type { AdamW } from './adamw.js';
import { accumulateGradients, type BatchMetrics } from './loss.js';
import { learningRate } from './schedule.js';

export interface StepReport {
  step: number;
  /** Tokens trained on so far, this step's among them. */
  tokens: number;
  /** LM loss of the step's batch, before its update, in nats a token. */
  loss: number;
  learningRate: number;
  /** Global gradient norm before clipping. */
  gradNorm: number;
  predictorAccuracy: number | null;
  /** Held-out loss after the step; null unless this step evaluates. */
  heldoutLoss: number | null;
  stepMs: number;
}

export interface TrainerOptions {
  spec: RunSpec;
  model: Transformer;
  optimizer: AdamW;
  batches: TrainingBatches;
  microBatchSequences: number;
  onStep: (report: StepReport) => void;
  /** Held-out loss, for `evaluation.every_steps`. */
  heldoutLoss: () => Promise<number>;
  /** Milliseconds; injected, so that tests decide how time passes. */
  now: () => number;
}

/** `diverged`: a loss or gradient norm that is not a finite number, at the step of the last report. */
export type TrainingOutcome = 'done' | 'diverged';

/** Trains from the optimizer's step to the run's last. Yields to the event loop between steps. */
export async function train(options: TrainerOptions): Promise<TrainingOutcome> {
  const { spec, optimizer, batches } = options;
  const tokensPerStep = spec.batch_sequences * spec.model.sequence_length;
  while (optimizer.step < spec.steps) {
    const step = optimizer.step + 1;
    const started = options.now();
    const rate = learningRate(step, spec.steps, spec.training.learning_rate);
    const firstSequence = batches.cursor;
    const metrics = accumulateMicroBatches(options, batches.next(spec.batch_sequences), firstSequence);
    const gradNorm = take(optimizer.update(rate));
    const report: StepReport = {
      step,
      tokens: step * tokensPerStep,
      ...metrics,
      learningRate: rate,
      gradNorm,
      heldoutLoss: null,
      stepMs: options.now() - started,
    };
    const finite = Number.isFinite(report.loss) && Number.isFinite(report.gradNorm);
    if (finite && evaluatesAfter(step, spec)) report.heldoutLoss = await options.heldoutLoss();
    options.onStep(report);
    if (!finite) return 'diverged';
    await new Promise((resolve) => setImmediate(resolve));
  }
  return 'done';
}

function evaluatesAfter(step: number, spec: RunSpec): boolean {
  const { every_steps } = spec.evaluation;
  return every_steps > 0 && (step % every_steps === 0 || step === spec.steps);
}

/** Gradients of the whole batch, a micro-batch at a time; the losses are means over the batch. */
function accumulateMicroBatches(
  { spec, model, microBatchSequences }: TrainerOptions,
  batch: Batch,
  firstSequence: number,
): { loss: number; predictorAccuracy: number | null } {
  const T = spec.model.sequence_length;
  let loss = 0;
  let accuracy: number | null = null;
  for (let first = 0; first < spec.batch_sequences; first += microBatchSequences) {
    const sequences = Math.min(microBatchSequences, spec.batch_sequences - first);
    const part: Batch = {
      sequences,
      inputs: batch.inputs.subarray(first * T, (first + sequences) * T),
      targets: batch.targets.subarray(first * T, (first + sequences) * T),
    };
    const share = sequences / spec.batch_sequences;
    const noise = routerNoise(spec.model, spec.seed, 'training', firstSequence + first, sequences);
    const metrics: BatchMetrics = accumulateGradients(model, part, noise, share);
    loss += share * take(metrics.loss);
    if (metrics.predictorAccuracy !== null) {
      accuracy = (accuracy ?? 0) + share * take(metrics.predictorAccuracy);
    }
  }
  return { loss, predictorAccuracy: accuracy };
}

/** The value of a scalar, which is freed. */
function take(scalar: Tensor): number {
  const [value] = scalar.dataSync();
  scalar.dispose();
  return value as number;
}
