/** The training loop of one run: it takes batches and reports each step. It reads and writes no files. */
import type { Batch, TrainingBatches } from '../data/batches.js';
import { DeviceMemoryError } from '../errors.js';
import { evenMicroBatch } from '../model/memory.js';
import type { Transformer } from '../model/transformer.js';
import type { Recorder } from '../ops/recording.js';
import type { RunSpec } from '../plan/run.js';
import type { ExpertShares } from './expert-shares.js';
import type { Optimizer } from './optimizer.js';
import { peakLearningRate } from './parametrization.js';
import type { RouterThresholds } from './router-thresholds.js';
import { learningRate } from './schedule.js';
import { type StepMetrics, TrainingStep } from './step.js';

export interface StepReport {
  step: number;
  /** Tokens trained on so far, including this step's. */
  tokens: number;
  /** LM loss of the step's batch, before its update, in nats per token. */
  loss: number;
  learningRate: number;
  /** Global gradient norm before clipping. */
  gradNorm: number;
  /** Share of tokens whose selection the predictors predict correctly; null without predictors. */
  predictorAccuracy: number | null;
  /** Null without experts. */
  experts: ExpertShares | null;
  /** Held-out loss after the step; null unless this step evaluates. */
  heldoutLoss: number | null;
  /** Wall time since the previous report, in milliseconds. */
  stepMs: number;
}

export interface TrainerOptions {
  spec: RunSpec;
  model: Transformer;
  optimizer: Optimizer;
  batches: TrainingBatches;
  /** Sequences that pass through the model at once, at the start. */
  microBatchSequences: number;
  /** Records steps if the backend can; the next step is then queued before the metrics of this one are read. */
  recorder?: Recorder | null;
  /** The running quantiles of the routed blocks, which every step updates; null for a model without them. */
  thresholds?: RouterThresholds | null;
  /** Batches to skip, by the number of their first sequence. */
  skipped?: ReadonlySet<number>;
  /** Whether to pause after a step, once it is reported and the device is idle. */
  pausesAfter?: (step: number) => boolean;
  /** Called in a pause: model and optimizer have the state after that step. Returns false to stop the training. */
  onPause?: () => Promise<boolean>;
  /** Out of device memory: training continues on the same batches with this smaller micro-batch. */
  onMicroBatch?: (sequences: number) => void;
  onStep: (report: StepReport) => void;
  /**
   * Held-out loss, for `evaluation.every_steps`. If the device is out of memory it may call `freeMemory` once, which frees
   * the memory of the recorded step until the next one.
   */
  heldoutLoss: (freeMemory: () => void) => Promise<number>;
  /** Clock in milliseconds; injected for tests. */
  now: () => number;
}

export type TrainingOutcome =
  | { kind: 'done' }
  /** `onPause` returned false. */
  | { kind: 'stopped' }
  /**
   * The loss or gradient norm is not finite. The step is not reported to `onStep`, and its update left the weights
   * unchanged; if steps are recorded the next step has run too, one step further in the schedule.
   */
  | { kind: 'not finite'; report: StepReport; firstSequence: number };

/**
 * Trains from the optimizer's step to the run's last. Yields to the event loop between steps.
 *
 * @throws DeviceMemoryError if the device cannot hold a micro-batch of one sequence
 */
export async function train(options: TrainerOptions): Promise<TrainingOutcome> {
  const { spec, optimizer, batches, recorder = null, skipped = new Set() } = options;
  const { pausesAfter = () => false, onPause = async () => true } = options;
  const peak = peakLearningRate(spec);
  const stepper = new Stepper(options);
  /** The step that is queued but not reported: at most one, and only if steps are recorded. */
  let queued: QueuedStep | null = null;
  let reported = options.now();
  /** Reports a step; returns the outcome if this step ends the training, else null. */
  const report = async (queuedStep: QueuedStep): Promise<TrainingOutcome | null> => {
    const { step, firstSequence, learningRate: rate } = queuedStep;
    const { loss, gradNorm, predictorAccuracy, experts } = await queuedStep.metrics;
    const now = options.now();
    const finite = Number.isFinite(loss) && Number.isFinite(gradNorm);
    const evaluates = finite && evaluatesAfter(step, spec);
    const stepReport: StepReport = {
      step,
      tokens: step * spec.batch_sequences * spec.model.sequence_length,
      loss,
      learningRate: rate,
      gradNorm,
      predictorAccuracy,
      experts,
      heldoutLoss: evaluates ? await options.heldoutLoss(() => stepper.freeRecording()) : null,
      stepMs: now - reported,
    };
    if (!finite) return { kind: 'not finite', report: stepReport, firstSequence };
    options.onStep(stepReport);
    // With steps queued ahead the device already runs the next one: reporting costs it no time.
    reported = recorder !== null && !evaluates ? now : options.now();
    return null;
  };
  try {
    while (optimizer.step < spec.steps) {
      const step = optimizer.step + 1;
      const rate = learningRate(step, spec.steps, peak);
      while (skipped.has(batches.cursor)) batches.cursor += spec.batch_sequences;
      const firstSequence = batches.cursor;
      const metrics = stepper.run(batches.next(spec.batch_sequences), firstSequence, rate);
      metrics.catch(() => undefined); // the error is thrown when the step is reported
      const before: QueuedStep | null = queued;
      queued = { step, firstSequence, learningRate: rate, metrics };
      const outcome = before === null ? null : await report(before);
      if (outcome !== null) return outcome;
      // The device runs this step while the host prepares the next, unless this one must be finished first.
      const pauses = pausesAfter(step);
      if (recorder === null || pauses || evaluatesAfter(step, spec) || step === spec.steps) {
        const last = queued;
        queued = null;
        const outcome = await report(last);
        if (outcome !== null) return outcome;
      }
      if (pauses && !(await onPause())) return { kind: 'stopped' };
      if (pauses) reported = options.now();
      await new Promise((resolve) => setImmediate(resolve));
    }
    return { kind: 'done' };
  } finally {
    await queued?.metrics.catch(() => undefined);
    stepper.dispose();
  }
}

interface QueuedStep {
  step: number;
  /** The number of its batch's first sequence. */
  firstSequence: number;
  learningRate: number;
  metrics: Promise<StepMetrics>;
}

/** Training steps with a micro-batch that is halved whenever the device runs out of memory. */
class Stepper {
  private step: TrainingStep;
  private microBatch: number;

  constructor(private readonly options: TrainerOptions) {
    this.microBatch = options.microBatchSequences;
    this.step = this.make();
  }

  run(batch: Batch, firstSequence: number, rate: number): Promise<StepMetrics> {
    for (;;) {
      try {
        return this.step.run(batch, firstSequence, rate);
      } catch (error) {
        if (!(error instanceof DeviceMemoryError) || this.microBatch === 1) throw error;
        const { batch_sequences } = this.options.spec;
        this.microBatch = evenMicroBatch(batch_sequences, Math.ceil(this.microBatch / 2));
        this.options.onMicroBatch?.(this.microBatch);
        this.step.dispose();
        this.step = this.make();
      }
    }
  }

  freeRecording(): void {
    this.step.freeRecording();
  }

  dispose(): void {
    this.step.dispose();
  }

  private make(): TrainingStep {
    const { spec, model, optimizer, recorder = null, thresholds = null } = this.options;
    return new TrainingStep({
      model,
      optimizer,
      batchSequences: spec.batch_sequences,
      microBatchSequences: this.microBatch,
      seed: spec.seed,
      recorder,
      thresholds,
    });
  }
}

function evaluatesAfter(step: number, spec: RunSpec): boolean {
  const { every_steps } = spec.evaluation;
  return every_steps > 0 && (step % every_steps === 0 || step === spec.steps);
}
