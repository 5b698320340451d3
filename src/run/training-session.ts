/** Trains a run with checkpoints: resumes, saves, and goes back if the loss is not finite. The loop is train/trainer.ts. */
import { join } from 'node:path';
import type { ChosenBackend } from '../backends/choose.js';
import { Checkpointer } from '../checkpoint/checkpointer.js';
import type { CheckpointFile, CheckpointJob } from '../checkpoint/folder.js';
import { loadModel, modelFiles } from '../checkpoint/model.js';
import { loadOptimizerState, optimizerStateParts } from '../checkpoint/optimizer-state.js';
import { type UsableCheckpoint, usableCheckpoint } from '../checkpoint/resume.js';
import { type RunState, stateText } from '../checkpoint/run-state.js';
import type { HeldoutWindows, TrainingBatches } from '../data/batches.js';
import { evaluate } from '../eval/heldout.js';
import { initialValues } from '../model/parameters.js';
import { shapeScale } from '../model/parametrization.js';
import { Transformer } from '../model/transformer.js';
import type { PlannedRun } from '../plan/run.js';
import { runFiles } from '../results/run-folder.js';
import { appendStep, truncateSteps } from '../results/steps.js';
import type { Optimizer } from '../train/optimizer.js';
import { createOptimizer } from '../train/optimizers.js';
import { optimizerOptions } from '../train/parametrization.js';
import {
  correctedThresholds,
  createThresholds,
  type RouterThresholds,
  type ThresholdState,
} from '../train/router-thresholds.js';
import { type StepReport, type TrainingOutcome, train } from '../train/trainer.js';
import { StepLog } from './step-log.js';
import type { StopRequest } from './stop-request.js';

export interface TrainingSessionOptions {
  run: PlannedRun;
  folder: string;
  backend: ChosenBackend;
  batches: TrainingBatches;
  heldout: HeldoutWindows;
  /** The tokenizer of the data, stored in checkpoints. */
  tokenizer: string | null;
  stop: StopRequest;
  /** Sequences per forward pass at the start: the checkpoint's number if training resumes. */
  microBatch: number;
  /** First sequences of skipped batches. Training adds to this set. */
  skipped: Set<number>;
  onStep: (report: StepReport) => void;
  /** Called when no step is to be expected soon: before a checkpoint is read or written, after each batch of an evaluation. */
  onPause: () => void;
  onMicroBatch: (sequences: number) => void;
  /** Called after a batch was added to `skipped`. */
  onSkip: () => void;
  log: (line: string) => void;
  /** Writes a checkpoint to disk in parallel to training; injected in tests. */
  write: (job: CheckpointJob) => Promise<void>;
  /** Milliseconds; injected in tests. */
  now: () => number;
}

export type TrainingEnd =
  | { kind: 'done' | 'stopped' }
  /** The loss or gradient norm is not finite, and no more batches may be skipped. */
  | { kind: 'diverged'; step: number };

/** Batches of a run that may be skipped before it counts as diverged. */
const MAX_SKIPPED = 3;

export class TrainingSession {
  model!: Transformer;
  steps!: StepLog;
  private optimizer!: Optimizer;
  private thresholds!: RouterThresholds | null;
  private checkpointer!: Checkpointer;
  /** Sequences per forward pass now. */
  microBatch: number;
  private readonly started: number;
  /** Seconds of earlier attempts. */
  private readonly wallBefore: number;

  /** @param from a checkpoint of the run; null: start at step 0 */
  constructor(
    private readonly options: TrainingSessionOptions,
    from: UsableCheckpoint | null,
  ) {
    this.started = options.now();
    this.wallBefore = from?.state.wall_s ?? 0;
    this.microBatch = options.microBatch;
    this.rebuildFrom(from);
  }

  /** Seconds of training so far, including earlier attempts. */
  get wallSeconds(): number {
    return this.wallBefore + (this.options.now() - this.started) / 1000;
  }

  /** Steps taken. */
  get step(): number {
    return this.optimizer.step;
  }

  /**
   * Trains to the last step and saves the weights; after a stop request, stops and saves a full checkpoint.
   *
   * @throws DiskFullError if the disk has no space for a checkpoint; earlier checkpoints stay
   */
  async run(): Promise<TrainingEnd> {
    for (;;) {
      const outcome = await this.train();
      if (outcome.kind === 'stopped') return { kind: 'stopped' };
      this.options.onPause();
      if (outcome.kind === 'done') {
        await this.checkpointer.begin(this.step, () => this.files());
        await this.checkpointer.settle();
        return { kind: 'done' };
      }
      const { report, firstSequence } = outcome;
      const { skipped, log, run, folder } = this.options;
      const what = `step ${report.step}: loss ${report.loss}, gradient norm ${report.gradNorm}`;
      await this.checkpointer.settle();
      if (skipped.size === MAX_SKIPPED) {
        this.steps.add(report);
        log(`${what}: ${MAX_SKIPPED} batches were skipped before, the run has diverged`);
        return { kind: 'diverged', step: report.step };
      }
      skipped.add(firstSequence);
      this.options.onSkip();
      const { checkpoints } = runFiles(folder);
      const checkpoint = usableCheckpoint(checkpoints, run.config_hash, log);
      log(
        `${what}: back to step ${checkpoint?.state.step ?? 0}, skipping the batch of sequence ${firstSequence}`,
      );
      this.dispose();
      this.rebuildFrom(checkpoint);
    }
  }

  dispose(): void {
    this.thresholds?.dispose();
    this.optimizer.dispose();
    this.model.dispose();
  }

  /** Restores model, optimizer, log and data from a checkpoint, or initialises them. */
  private rebuildFrom(from: UsableCheckpoint | null): void {
    const { run, folder, batches, skipped, log, write, now } = this.options;
    const { spec } = run;
    const state = from?.state ?? null;
    this.model =
      from === null
        ? new Transformer(
            spec.model,
            initialValues(spec.seed),
            shapeScale(spec.model, spec.training.base ?? null),
          )
        : loadModel(from.folder);
    this.optimizer = createOptimizer(this.model.parameters, optimizerOptions(spec, this.model.tree.roles));
    if (from !== null) {
      const { step } = from.state;
      if (step < spec.steps)
        loadOptimizerState(join(from.folder, 'optimizer.safetensors'), this.optimizer, step);
      this.optimizer.step = step;
      // A different micro-batch size sums the gradients in a different order.
      this.microBatch = Math.min(this.microBatch, from.state.micro_batch_sequences);
    }
    this.thresholds = createThresholds(spec.model, spec.batch_sequences, thresholdsIn(state));
    for (const batch of state?.skipped_batches ?? []) skipped.add(batch);
    batches.cursor = state?.cursor ?? 0;
    const { steps, checkpoints } = runFiles(folder);
    truncateSteps(steps, this.step);
    this.steps = new StepLog(spec.steps, (row) => appendStep(steps, row), state?.log);
    this.checkpointer = new Checkpointer(
      { checkpoints, policy: run.checkpoint, after: [steps], log, write, now },
      this.step,
    );
  }

  private train(): Promise<TrainingOutcome> {
    const { run, backend, batches, heldout, skipped, stop, now } = this.options;
    const { spec } = run;
    return train({
      spec,
      model: this.model,
      optimizer: this.optimizer,
      batches,
      microBatchSequences: this.microBatch,
      recorder: backend.recorder,
      thresholds: this.thresholds,
      skipped,
      pausesAfter: (step) => step < spec.steps && (stop.reason !== null || this.checkpointer.due(step)),
      onPause: () => this.save(),
      onMicroBatch: (sequences) => {
        this.microBatch = sequences;
        this.options.onMicroBatch(sequences);
      },
      now,
      heldoutLoss: async (freeMemory) => {
        const { loss } = await evaluate(this.model, heldout, {
          mode: 'topk',
          sequences: spec.evaluation.sequences,
          batchSequences: this.microBatch,
          seed: spec.seed,
          freeMemory,
          onProgress: () => this.options.onPause(),
        });
        return loss;
      },
      onStep: (report) => {
        this.steps.add(report);
        this.options.onStep(report);
      },
    });
  }

  /** Saves a checkpoint while training pauses; returns whether training continues. */
  private async save(): Promise<boolean> {
    this.options.onPause();
    await this.checkpointer.begin(this.step, () => this.files());
    if (this.options.stop.reason === null) return true;
    await this.checkpointer.settle();
    return false;
  }

  private files(): CheckpointFile[] {
    const { run, tokenizer } = this.options;
    const isLast = this.step === run.spec.steps; // training does not resume from it
    const thresholds = this.thresholds?.read() ?? null;
    this.model.thresholds = thresholds && correctedThresholds(thresholds);
    return [
      ...modelFiles(this.model, tokenizer),
      ...(isLast ? [] : [{ name: 'optimizer.safetensors', parts: optimizerStateParts(this.optimizer) }]),
      { name: 'state.json', parts: [Buffer.from(stateText(this.state(thresholds)))] },
    ];
  }

  private state(thresholds: ThresholdState | null): RunState {
    const { run, backend, batches, skipped } = this.options;
    return {
      format: 'mod-state-1',
      config_hash: run.config_hash,
      backend: backend.name,
      precision: backend.precision,
      step: this.step,
      cursor: batches.cursor,
      skipped_batches: [...skipped],
      micro_batch_sequences: this.microBatch,
      ...(thresholds === null ? {} : { router_thresholds: storedThresholds(thresholds) }),
      wall_s: this.wallSeconds,
      log: this.steps.state,
    };
  }
}

const storedThresholds = ({ sums, steps }: ThresholdState): RunState['router_thresholds'] => ({
  sums: sums.map((sum) => (sum === Number.NEGATIVE_INFINITY ? null : sum)),
  steps,
});

/** The running quantiles of a checkpoint; null for one that has none, from which they start again. */
function thresholdsIn(state: RunState | null): ThresholdState | null {
  const stored = state?.router_thresholds;
  if (stored === undefined) return null;
  return { ...stored, sums: stored.sums.map((sum) => sum ?? Number.NEGATIVE_INFINITY) };
}
