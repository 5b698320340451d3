/** The training of a run in this process: from a checkpoint on, saving as it goes, back to one where numbers are lost. */
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
import { Transformer } from '../model/transformer.js';
import type { PlannedRun } from '../plan/run.js';
import { runFiles } from '../results/run-folder.js';
import { appendStep, cutSteps } from '../results/steps.js';
import type { Optimizer } from '../train/optimizer.js';
import { createOptimizer } from '../train/optimizers.js';
import { type StepReport, type TrainingOutcome, train } from '../train/trainer.js';
import { StepLog } from './step-log.js';
import type { StopRequest } from './stop-request.js';

export interface TrainingOptions {
  run: PlannedRun;
  folder: string;
  backend: ChosenBackend;
  batches: TrainingBatches;
  heldout: HeldoutWindows;
  /** What the data was tokenized with, for the checkpoints. */
  tokenizer: string | null;
  stop: StopRequest;
  /** Sequences that pass through the model at once in evaluations, and in training to begin with. */
  microBatch: number;
  /** First sequences of batches that are passed over: training adds to them. */
  skipped: Set<number>;
  onStep: (report: StepReport) => void;
  onMicroBatch: (sequences: number) => void;
  /** A batch has been added to the skipped. */
  onSkip: () => void;
  log: (line: string) => void;
  /** Puts a checkpoint on the disk, beside training; injected in tests. */
  write: (job: CheckpointJob) => Promise<void>;
  /** Milliseconds; injected in tests. */
  now: () => number;
}

export type TrainingEnd =
  | { kind: 'done' | 'stopped' }
  /** Numbers that are none, and no more batches may be skipped. */
  | { kind: 'diverged'; step: number };

/** Batches of a run that may be skipped before it counts as diverged. */
export const MOST_SKIPPED = 3;

export class RunTraining {
  model!: Transformer;
  steps!: StepLog;
  private optimizer!: Optimizer;
  private checkpointer!: Checkpointer;
  private microBatch: number;
  private readonly started: number;
  /** Seconds of earlier attempts. */
  private readonly wallBefore: number;

  /** @param from a checkpoint of the run; null: the start */
  constructor(
    private readonly options: TrainingOptions,
    from: UsableCheckpoint | null,
  ) {
    this.started = options.now();
    this.wallBefore = from?.state.wall_s ?? 0;
    this.microBatch = options.microBatch;
    this.rebuildFrom(from);
  }

  /** Seconds of training so far, those of earlier attempts included. */
  get wallSeconds(): number {
    return this.wallBefore + (this.options.now() - this.started) / 1000;
  }

  /** Steps taken. */
  get step(): number {
    return this.optimizer.step;
  }

  /**
   * Trains to the last step and saves its weights, or until it is asked to stop, and saves all.
   *
   * @throws DiskFullError where a checkpoint has no room: those before it stay
   */
  async run(): Promise<TrainingEnd> {
    for (;;) {
      const outcome = await this.train();
      if (outcome.kind === 'stopped') return { kind: 'stopped' };
      if (outcome.kind === 'done') {
        await this.checkpointer.begin(this.step, () => this.files());
        await this.checkpointer.settle();
        return { kind: 'done' };
      }
      const { report, firstSequence } = outcome;
      const { skipped, log, run, folder } = this.options;
      const what = `step ${report.step}: loss ${report.loss}, gradient norm ${report.gradNorm}`;
      await this.checkpointer.settle();
      if (skipped.size === MOST_SKIPPED) {
        this.steps.add(report);
        log(`${what}: ${MOST_SKIPPED} batches have been skipped, the run has diverged`);
        return { kind: 'diverged', step: report.step };
      }
      skipped.add(firstSequence);
      this.options.onSkip();
      const { checkpoints } = runFiles(folder);
      const checkpoint = usableCheckpoint(checkpoints, run.config_hash, log);
      log(
        `${what}: back to step ${checkpoint?.state.step ?? 0}, passing over the batch of sequence ${firstSequence}`,
      );
      this.dispose();
      this.rebuildFrom(checkpoint);
    }
  }

  dispose(): void {
    this.optimizer.dispose();
    this.model.dispose();
  }

  /** Makes model, optimizer, log and data what they were at a checkpoint. */
  private rebuildFrom(from: UsableCheckpoint | null): void {
    const { run, folder, batches, skipped, log, write, now } = this.options;
    const { spec } = run;
    const state = from?.state ?? null;
    this.model =
      from === null ? new Transformer(spec.model, initialValues(spec.seed)) : loadModel(from.folder);
    this.optimizer = createOptimizer(this.model.parameters, {
      weightDecay: spec.training.weight_decay,
      gradientClip: spec.training.gradient_clip,
    });
    if (from !== null) {
      const { step } = from.state;
      if (step < spec.steps)
        loadOptimizerState(join(from.folder, 'optimizer.safetensors'), this.optimizer, step);
      this.optimizer.step = step;
      // Another size of micro-batch adds the same gradients up in another order.
      this.microBatch = Math.min(this.microBatch, from.state.micro_batch_sequences);
    }
    for (const batch of state?.skipped_batches ?? []) skipped.add(batch);
    batches.cursor = state?.cursor ?? 0;
    const { steps, checkpoints } = runFiles(folder);
    cutSteps(steps, this.step);
    this.steps = new StepLog(spec.steps, (row) => appendStep(steps, row), state?.log);
    this.checkpointer = new Checkpointer(
      { checkpoints, policy: run.checkpoint, after: [steps], log, write, now },
      this.step,
    );
  }

  private train(): Promise<TrainingOutcome> {
    const { run, backend, batches, heldout, skipped, stop, microBatch, now } = this.options;
    const { spec } = run;
    return train({
      spec,
      model: this.model,
      optimizer: this.optimizer,
      batches,
      microBatchSequences: this.microBatch,
      recorder: backend.recorder,
      skipped,
      restsAfter: (step) => step < spec.steps && (stop.reason !== null || this.checkpointer.due(step)),
      atRest: () => this.save(),
      onMicroBatch: (sequences) => {
        this.microBatch = sequences;
        this.options.onMicroBatch(sequences);
      },
      now,
      heldoutLoss: async () => {
        const options = { mode: 'topk' as const, batchSequences: microBatch, seed: spec.seed };
        return (await evaluate(this.model, heldout, { ...options, sequences: spec.evaluation.sequences }))
          .loss;
      },
      onStep: (report) => {
        this.steps.add(report);
        this.options.onStep(report);
      },
    });
  }

  /** A checkpoint of the step that training rests after; whether it goes on. */
  private async save(): Promise<boolean> {
    await this.checkpointer.begin(this.step, () => this.files());
    if (this.options.stop.reason === null) return true;
    await this.checkpointer.settle();
    return false;
  }

  private files(): CheckpointFile[] {
    const { run, tokenizer } = this.options;
    const isLast = this.step === run.spec.steps; // nothing will be trained from it
    return [
      ...modelFiles(this.model, tokenizer),
      ...(isLast ? [] : [{ name: 'optimizer.safetensors', parts: optimizerStateParts(this.optimizer) }]),
      { name: 'state.json', parts: [Buffer.from(stateText(this.state()))] },
    ];
  }

  private state(): RunState {
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
      wall_s: this.wallSeconds,
      log: this.steps.state,
    };
  }
}
