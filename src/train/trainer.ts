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
  /** The device's memory did not do: from here on so many sequences at once, for the same batches. */
  onMicroBatch?: (sequences: number) => void;
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
  const { spec, optimizer, batches, recorder = null } = options;
  const stepper = new Stepper(options);
  /** The step that is queued but not reported: none, or one where steps are recorded. */
  let queued: QueuedStep | null = null;
  let reported = options.now();
  const report = async ({ step, learningRate: rate, metrics }: QueuedStep): Promise<boolean> => {
    const { loss, gradNorm, predictorAccuracy, experts } = await metrics;
    const now = options.now();
    const finite = Number.isFinite(loss) && Number.isFinite(gradNorm);
    const evaluates = finite && evaluatesAfter(step, spec);
    options.onStep({
      step,
      tokens: step * spec.batch_sequences * spec.model.sequence_length,
      loss,
      learningRate: rate,
      gradNorm,
      predictorAccuracy,
      experts,
      heldoutLoss: evaluates ? await options.heldoutLoss() : null,
      stepMs: now - reported,
    });
    // The device is at the next step already where steps are queued ahead: reporting takes none of its time.
    reported = recorder !== null && !evaluates ? now : options.now();
    return finite;
  };
  try {
    while (optimizer.step < spec.steps) {
      const step = optimizer.step + 1;
      const rate = learningRate(step, spec.steps, spec.training.learning_rate);
      const firstSequence = batches.cursor;
      const metrics = stepper.run(batches.next(spec.batch_sequences), firstSequence, rate);
      metrics.catch(() => undefined); // whoever reports the step hears of it
      const before: QueuedStep | null = queued;
      queued = { step, learningRate: rate, metrics };
      if (before !== null && !(await report(before))) return 'diverged';
      // The device goes on with this step while the host prepares the next, unless somebody must see this one's end.
      if (recorder === null || evaluatesAfter(step, spec) || step === spec.steps) {
        const last = queued;
        queued = null;
        if (!(await report(last))) return 'diverged';
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    return 'done';
  } finally {
    await queued?.metrics.catch(() => undefined);
    stepper.dispose();
  }
}

interface QueuedStep {
  step: number;
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
