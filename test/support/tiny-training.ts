/** Trains one small run in this process, with hooks for tests to inject faults. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ChosenBackend } from '../../src/backends/choose.js';
import { type CheckpointJob, checkpointFolder, writeCheckpoint } from '../../src/checkpoint/folder.js';
import { usableCheckpoint } from '../../src/checkpoint/resume.js';
import { parseSweepFile } from '../../src/config/sweep-file.js';
import { openHeldoutData, openTrainingData } from '../../src/data/run-data.js';
import { makeResultsFolder } from '../../src/files/atomic.js';
import type { Recorder } from '../../src/ops/recording.js';
import { expandSweep } from '../../src/plan/expand.js';
import type { PlannedRun } from '../../src/plan/run.js';
import { runFiles } from '../../src/results/run-folder.js';
import { readSteps } from '../../src/results/steps.js';
import { StopRequest } from '../../src/run/stop-request.js';
import { type TrainingEnd, TrainingSession } from '../../src/run/training-session.js';
import type { StepReport } from '../../src/train/trainer.js';
import type { TestBackend } from './backends.js';
import { TINY_SWEEP, type TinySweep } from './tiny-sweep.js';

/** A checkpoint every five steps, three kept, and held-out losses during training. */
export const CHECKPOINTED_SWEEP = `${TINY_SWEEP.replace('sequences: 4', 'sequences: 4, every_steps: 9')}
checkpoint: {minutes: 0, steps: 5, keep: 3}
expert_variants: [mode-integrated]
experts: {count: 2}
`;

export function runsOf(sweep: TinySweep): PlannedRun[] {
  return expandSweep(parseSweepFile(sweep.config, readFileSync(sweep.config, 'utf8')));
}

export interface TinyTraining {
  backend: TestBackend;
  recorder?: Recorder;
  /** Called after each step; returns true to stop training. */
  onStep?: (report: StepReport, training: TrainingSession) => boolean | undefined;
  write?: (job: CheckpointJob) => Promise<void>;
  skipped?: Set<number>;
  now?: () => number;
}

export interface TinyTrained {
  end: TrainingEnd;
  /** Step of the checkpoint that training resumed from; 0 if none. */
  from: number;
  log: string[];
  skipped: number[];
}

/** Trains a run from the newest usable checkpoint of its folder, as a training process does. */
export async function trainTiny(
  sweep: TinySweep,
  run: PlannedRun,
  folder: string,
  options: TinyTraining,
): Promise<TinyTrained> {
  makeResultsFolder(folder);
  const log: string[] = [];
  const writeLog = (line: string) => log.push(line);
  const data = await openTrainingData(run.spec, sweep.folder);
  const heldout = await openHeldoutData(run.spec, sweep.folder);
  const stop = new StopRequest();
  const skipped = options.skipped ?? new Set<number>();
  const checkpoint = usableCheckpoint(runFiles(folder).checkpoints, run.config_hash, writeLog);
  const training = new TrainingSession(
    {
      run,
      folder,
      backend: {
        name: options.backend,
        precision: 'fp32',
        device: 'a test',
        recorder: options.recorder ?? null,
      } as ChosenBackend,
      batches: data.batches,
      heldout: heldout.windows,
      tokenizer: 'bytes',
      stop,
      microBatch: 1,
      skipped,
      onStep: (report) => {
        if (options.onStep?.(report, training) === true) stop.reason = 'SIGTERM';
      },
      onPause: () => undefined,
      onMicroBatch: () => undefined,
      onSkip: () => undefined,
      log: writeLog,
      write: options.write ?? (async (job) => writeCheckpoint(job)),
      now: options.now ?? (() => performance.now()),
    },
    checkpoint,
  );
  try {
    const end = await training.run();
    return { end, from: checkpoint?.state.step ?? 0, log, skipped: [...skipped] };
  } finally {
    training.dispose();
    data.close();
    heldout.close();
  }
}

/** The results that interruptions must not change: the bytes of the weights and the rows of steps.csv without times. */
export function resultOf(run: PlannedRun, folder: string): { weights: Buffer; steps: object[] } {
  const weights = readFileSync(join(checkpointFolder(folder, run.spec.steps), 'weights.safetensors'));
  const steps = readSteps(runFiles(folder).steps).map(({ step_ms: _, ...row }) => row);
  return { weights, steps };
}
