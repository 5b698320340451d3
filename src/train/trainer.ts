/** The training loop of one run: batches in, a row a step out. It knows no files and no processes. */
import type { Batch, TrainingBatches } from '../data/batches.js';
import { DeviceMemoryError } from '../errors.js';
import type { Transformer } from '../model/transformer.js';
import type { Recorder } from '../ops/recording.js';
import type { RunSpec } from '../plan/run.js';
import type { AdamW } from './adamw.js';
import type { ExpertShares } from './expert-shares.js';
import { learningRate } from './schedule.js';
import { type StepMetrics, TrainingStep } from './step.js';

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
  experts: ExpertShares | null;
  /** Held-out loss after the step; null unless this step evaluates. */
  heldoutLoss: number | null;
  stepMs: number;
}

export interface TrainerOptions {
  spec: RunSpec;
  model: Transformer;
  optimizer: AdamW;
  batches: TrainingBatches;
  /** Sequences that pass through the model at once, to begin with. */
  microBatchSequences: number;
  /** Where the backend can record a step: then the next step is queued before this one's numbers are read. */
  recorder?: Recorder | null;
  /** Batches that are passed over, by the number of their first sequence. */
  skipped?: ReadonlySet<number>;
  /** Whether to come to rest after a step: its numbers are reported and nothing is queued on the device. */
  restsAfter?: (step: number) => boolean;
  /** At rest after a step: what the model and the optimizer hold is that step's. False: training stops there. */
  atRest?: () => Promise<boolean>;
  /** The device's memory did not do: from here on so many sequences at once, for the same batches. */
  onMicroBatch?: (sequences: number) => void;
  onStep: (report: StepReport) => void;
  /** Held-out loss, for `evaluation.every_steps`. */
  heldoutLoss: () => Promise<number>;
  /** Milliseconds; injected, so that tests decide how time passes. */
  now: () => number;
}

export type TrainingOutcome =
  | { kind: 'done' }
  /** `atRest` asked for it. */
  | { kind: 'stopped' }
  /**
   * A loss or gradient norm that is not a finite number. The step is not reported to `onStep`, and its update left the
   * weights as they were; where steps are recorded the next one has been taken, with the schedule of one step on.
   */
  | { kind: 'not finite'; report: StepReport; firstSequence: number };

/** Trains from the optimizer's step to the run's last. Yields to the event loop between steps. */
export async function train(options: TrainerOptions): Promise<TrainingOutcome> {
  const { spec, optimizer, batches, recorder = null, skipped = new Set() } = options;
  const { restsAfter = () => false, atRest = async () => true } = options;
  const stepper = new Stepper(options);
  /** The step that is queued but not reported: none, or one where steps are recorded. */
  let queued: QueuedStep | null = null;
  let reported = options.now();
  /** Null, or the end of training. */
  const report = async (queuedStep: QueuedStep): Promise<TrainingOutcome | null> => {
    const { step, firstSequence, learningRate: rate } = queuedStep;
    const { loss, gradNorm, predictorAccuracy, experts } = await queuedStep.metrics;
    const now = options.now();
    const finite = Number.isFinite(loss) && Number.isFinite(gradNorm);
    const evaluates = finite && evaluatesAfter(step, spec);
    const reportOfStep: StepReport = {
      step,
      tokens: step * spec.batch_sequences * spec.model.sequence_length,
      loss,
      learningRate: rate,
      gradNorm,
      predictorAccuracy,
      experts,
      heldoutLoss: evaluates ? await options.heldoutLoss() : null,
      stepMs: now - reported,
    };
    if (!finite) return { kind: 'not finite', report: reportOfStep, firstSequence };
    options.onStep(reportOfStep);
    // The device is at the next step already where steps are queued ahead: reporting takes none of its time.
    reported = recorder !== null && !evaluates ? now : options.now();
    return null;
  };
  try {
    while (optimizer.step < spec.steps) {
      const step = optimizer.step + 1;
      const rate = learningRate(step, spec.steps, spec.training.learning_rate);
      while (skipped.has(batches.cursor)) batches.cursor += spec.batch_sequences;
      const firstSequence = batches.cursor;
      const metrics = stepper.run(batches.next(spec.batch_sequences), firstSequence, rate);
      metrics.catch(() => undefined); // whoever reports the step hears of it
      const before: QueuedStep | null = queued;
      queued = { step, firstSequence, learningRate: rate, metrics };
      const outcome = before === null ? null : await report(before);
      if (outcome !== null) return outcome;
      // The device goes on with this step while the host prepares the next, unless somebody must see this one's end.
      const rests = restsAfter(step);
      if (recorder === null || rests || evaluatesAfter(step, spec) || step === spec.steps) {
        const last = queued;
        queued = null;
        const outcome = await report(last);
        if (outcome !== null) return outcome;
      }
      if (rests && !(await atRest())) return { kind: 'stopped' };
      if (rests) reported = options.now();
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
  /** Of its batch. */
  firstSequence: number;
  learningRate: number;
  metrics: Promise<StepMetrics>;
}

/** Training steps of as many sequences at once as the device's memory turns out to hold. */
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
        this.microBatch = Math.ceil(this.microBatch / 2);
        this.options.onMicroBatch?.(this.microBatch);
        this.step.dispose();
        this.step = this.make();
      }
    }
  }

  dispose(): void {
    this.step.dispose();
  }

  private make(): TrainingStep {
    const { spec, model, optimizer, recorder = null } = this.options;
    return new TrainingStep({
      model,
      optimizer,
      batchSequences: spec.batch_sequences,
      microBatchSequences: this.microBatch,
      seed: spec.seed,
      recorder,
    });
  }
}

function evaluatesAfter(step: number, spec: RunSpec): boolean {
  const { every_steps } = spec.evaluation;
  return every_steps > 0 && (step % every_steps === 0 || step === spec.steps);
}
