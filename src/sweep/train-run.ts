/** One run from its first step to its row in runs.csv: what a training process does. */
import { rmSync } from 'node:fs';
import type { ChosenBackend } from '../backends/choose.js';
import { openHeldoutData, openTrainingData } from '../data/run-data.js';
import { dataTokenizer } from '../data/tokenizer.js';
import { evaluate } from '../eval/heldout.js';
import { evaluateModes, type ModeResult } from '../eval/modes.js';
import { saveModel } from '../model/checkpoint.js';
import { initialValues } from '../model/parameters.js';
import { evaluationModes } from '../model/routing.js';
import { Transformer } from '../model/transformer.js';
import type { PlannedRun } from '../plan/run.js';
import { makeResultsFolder } from '../results/atomic.js';
import type { RunRow } from '../results/columns.js';
import { gitCommit, versions } from '../results/provenance.js';
import {
  checkpointFolder,
  planRow,
  runFiles,
  writeEvaluations,
  writeManifest,
  writeResult,
} from '../results/run-folder.js';
import { appendStep } from '../results/steps.js';
import { AdamW } from '../train/adamw.js';
import { microBatchSequences } from '../train/micro-batch.js';
import { train } from '../train/trainer.js';
import type { RunEnd, RunMessage } from './messages.js';
import { tensorTable } from './parameter-table.js';
import { StepLog } from './step-log.js';

export interface TrainRunOptions {
  run: PlannedRun;
  /** The run's own folder; its lock is held by the caller. */
  folder: string;
  /** What the globs of the run's data are relative to. */
  baseDir: string;
  backend: ChosenBackend;
  tell: (message: RunMessage) => unknown;
  /** A line for the run's log. */
  log: (line: string) => void;
  /** Milliseconds since 1970; injected in tests. */
  now: () => number;
}

const PACKAGES = ['@tensorflow/tfjs-core', '@tensorflow/tfjs-backend-wasm', '@tensorflow/tfjs-node-gpu'];

/** Trains from the first step, saves the weights, evaluates, and leaves the run's result in its folder. */
export async function trainRun(options: TrainRunOptions): Promise<RunEnd> {
  const { run, folder, baseDir, backend, tell, log, now } = options;
  const { spec } = run;
  const started = now();
  const microBatch =
    spec.training.micro_batch_sequences ?? microBatchSequences(spec.model, spec.batch_sequences, backend);
  startAfresh(folder);
  const manifest = {
    run_id: run.run_id,
    config_hash: run.config_hash,
    seed: spec.seed,
    spec,
    backend: backend.name,
    precision: backend.precision,
    device: backend.device,
    micro_batch_sequences: microBatch,
    versions: versions(...PACKAGES),
    git_commit: gitCommit(),
    started_at: new Date(started).toISOString(),
  };
  writeManifest(folder, manifest);
  const model = new Transformer(spec.model, initialValues(spec.seed));
  log(tensorTable(model));
  tell({ type: 'started', runId: run.run_id, steps: spec.steps });

  const training = openTrainingData(spec, baseDir);
  const heldout = openHeldoutData(spec, baseDir);
  const steps = new StepLog(spec.steps, (row) => appendStep(runFiles(folder).steps, row));
  let lastStep = 0;
  const outcome = await train({
    spec,
    model,
    optimizer: new AdamW(model.parameters, {
      weightDecay: spec.training.weight_decay,
      gradientClip: spec.training.gradient_clip,
    }),
    batches: training.batches,
    microBatchSequences: microBatch,
    recorder: backend.recorder,
    onMicroBatch: (sequences) => {
      log(
        `the device's memory does not do for more than ${sequences} sequences at once: going on with so many`,
      );
      writeManifest(folder, { ...manifest, micro_batch_sequences: sequences });
    },
    now,
    heldoutLoss: async () => (await evaluate(model, heldout.windows, heldoutOptions(microBatch, run))).loss,
    onStep: (report) => {
      steps.add(report);
      lastStep = report.step;
      tell(progress(run, report.step, report.loss, now() - started));
    },
  });

  const row: RunRow = {
    ...planRow(run),
    ...rates(run, steps.summary(), backend.peakFlopsPerSecond),
    backend: backend.name,
    precision: backend.precision,
    device: backend.device,
    started_at: manifest.started_at,
    git_commit: manifest.git_commit,
  };
  const ended = (status: RunEnd['status'], note: string | null, loss: number | null): RunEnd => {
    const finished = now();
    writeResult(folder, {
      ...row,
      status,
      note,
      loss,
      loss_routing: loss === null ? null : 'topk',
      peak_memory_bytes: backend.peakMemoryBytes(),
      wall_s: (finished - started) / 1000,
      finished_at: new Date(finished).toISOString(),
    });
    return { runId: run.run_id, status, note };
  };
  if (outcome === 'diverged') {
    return ended(
      'diverged',
      `the loss or the gradient norm of step ${lastStep} is not a finite number`,
      null,
    );
  }
  const checkpoint = checkpointFolder(folder, spec.steps);
  makeResultsFolder(checkpoint);
  saveModel(checkpoint, model, dataTokenizer(spec.data, baseDir));
  const [topk, ...causal] = await evaluateRun(options, model, heldout.windows, microBatch);
  writeEvaluations(
    folder,
    [topk, ...causal].map(({ row }) => row),
  );
  training.close();
  heldout.close();
  return ended('done', null, topk.row.loss);
}

/** What an earlier try left would stand for what this one does. */
function startAfresh(folder: string): void {
  const { result, evaluation, steps, checkpoints } = runFiles(folder);
  for (const path of [result, evaluation, steps, checkpoints]) rmSync(path, { recursive: true, force: true });
}

async function evaluateRun(
  { run, backend, tell, now }: TrainRunOptions,
  model: Transformer,
  windows: Parameters<typeof evaluateModes>[1],
  microBatch: number,
): Promise<[ModeResult, ...ModeResult[]]> {
  const { spec, run_id } = run;
  const modes = spec.evaluation.autoregressive ? evaluationModes(spec.model) : (['topk'] as const);
  const results = await evaluateModes(model, windows, {
    runId: run_id,
    modes,
    ...heldoutOptions(microBatch, run),
    backend,
    now,
    onProgress: (_, mode, done, total) => tell({ type: 'evaluating', runId: run_id, mode, done, total }),
  });
  return results as [ModeResult, ...ModeResult[]];
}

function heldoutOptions(microBatch: number, { spec }: PlannedRun) {
  return {
    mode: 'topk' as const,
    sequences: spec.evaluation.sequences,
    batchSequences: microBatch,
    seed: spec.seed,
  };
}

function progress({ run_id, spec }: PlannedRun, step: number, loss: number, elapsedMs: number): RunMessage {
  const tokens = step * spec.batch_sequences * spec.model.sequence_length;
  return {
    type: 'step',
    runId: run_id,
    step,
    loss,
    tokensPerSecond: (tokens * 1000) / elapsedMs,
    secondsLeft: ((spec.steps - step) * elapsedMs) / step / 1000,
  };
}

/** The figures of a row that follow from its steps. The utilization is of what the device could do, where that is known. */
function rates(
  { spec, flops_per_pass }: PlannedRun,
  summary: ReturnType<StepLog['summary']>,
  peak: number | null,
): ReturnType<StepLog['summary']> & Pick<RunRow, 'tokens_per_s' | 'model_flops_utilization'> {
  const { step_ms } = summary;
  if (step_ms === null) return { ...summary, tokens_per_s: null, model_flops_utilization: null };
  const tokens = spec.batch_sequences * spec.model.sequence_length;
  const flopsPerSecond = (3 * flops_per_pass * spec.batch_sequences * 1000) / step_ms;
  return {
    ...summary,
    tokens_per_s: (tokens * 1000) / step_ms,
    model_flops_utilization: peak === null ? null : flopsPerSecond / peak,
  };
}
