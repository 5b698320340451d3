/** Executes one run, from the start or its last checkpoint: training (training-session.ts), evaluation, result.json. */
import { rmSync } from 'node:fs';
import type { ChosenBackend } from '../backends/choose.js';
import { keepLatest } from '../checkpoint/folder.js';
import { usableCheckpoint } from '../checkpoint/resume.js';
import { writeCheckpointInThread } from '../checkpoint/writer.js';
import { dataHash } from '../data/content-hash.js';
import { dataFiles, heldoutEndOfText, openHeldoutData, openTrainingData } from '../data/run-data.js';
import { dataTokenizer } from '../data/tokenizers.js';
import { InterruptedError } from '../errors.js';
import { evaluateModes, lossesByMode, type ModeResult } from '../eval/modes.js';
import { EvaluationProgress } from '../eval/progress.js';
import { microBatchSequences } from '../model/memory.js';
import { weightsModes } from '../model/routing-modes.js';
import type { Transformer } from '../model/transformer.js';
import type { PlannedRun } from '../plan/run.js';
import type { MeasuredColumns, RunRow } from '../results/columns.js';
import { writeHeldoutLosses } from '../results/heldout-losses.js';
import { planRow, runFiles, writeEvaluations, writeManifest, writeResult } from '../results/run-folder.js';
import type { StepReport } from '../train/trainer.js';
import type { RunEnd, RunMessage } from './messages.js';
import { manifestOf, resumedManifest, versionsNote } from './run-manifest.js';
import type { StepLog } from './step-log.js';
import type { StopRequest } from './stop-request.js';
import { tensorTable } from './tensor-table.js';
import { TrainingSession } from './training-session.js';

export interface ExecuteRunOptions {
  run: PlannedRun;
  folder: string;
  /** The sweep file's folder. */
  baseDir: string;
  backend: ChosenBackend;
  stop: StopRequest;
  /** Sends a message to the parent process. */
  send: (message: RunMessage) => void;
  log: (line: string) => void;
  /** Milliseconds since 1970; injected in tests. */
  now: () => number;
}

/**
 * Trains from the last checkpoint or the first step, saves the weights, evaluates, and writes the run's result to its
 * folder. After a stop request it saves within a step and writes no result.
 *
 * @throws DiskFullError if the disk has no space for a checkpoint
 */
export async function executeRun(options: ExecuteRunOptions): Promise<RunEnd> {
  const { run, folder, baseDir, backend, stop, send, log, now } = options;
  const { spec, run_id } = run;
  const started = now();
  const before = resumedManifest(run, folder);
  removeStaleFiles(folder, before !== null);
  const checkpoint =
    before === null ? null : usableCheckpoint(runFiles(folder).checkpoints, run.config_hash, log);
  if (checkpoint !== null) log(`resuming from ${checkpoint.folder}`);
  const microBatch = checkpoint?.state.micro_batch_sequences ?? firstMicroBatch(run, backend);
  const skipped = new Set(before?.skipped_batches ?? []);
  const files = dataFiles(spec.data, baseDir);
  const manifest = manifestOf(options, before, checkpoint?.state.step ?? 0, microBatch, files);
  writeManifest(folder, manifest);

  const data = await openTrainingData(spec, baseDir);
  const heldout = await openHeldoutData(spec, baseDir);
  const firstStep = checkpoint?.state.step ?? 0;
  const training = new TrainingSession(
    {
      run,
      folder,
      backend,
      batches: data.batches,
      heldout: heldout.windows,
      tokenizer: dataTokenizer(spec.data, baseDir),
      stop,
      microBatch,
      skipped,
      onStep: (report) => send(progress(run, report, firstStep, now() - started)),
      onPause: () => send({ type: 'pausing', runId: run_id }),
      onMicroBatch: (sequences) => {
        manifest.micro_batch_sequences = sequences;
        log(`out of device memory: continuing with a micro-batch of ${sequences} sequences`);
        writeManifest(folder, manifest);
      },
      onSkip: () => {
        manifest.skipped_batches = [...skipped];
        writeManifest(folder, manifest);
      },
      log,
      write: writeCheckpointInThread,
      now,
    },
    checkpoint,
  );
  log(tensorTable(training.model));
  send({ type: 'started', runId: run_id, steps: spec.steps });
  const finish = (status: RunEnd['status'], notes: string[], loss: number | null): RunEnd => {
    const advice = status === 'diverged' ? ['lower training.learning_rate, then mod sweep --retry'] : [];
    const versions = versionsNote(manifest.attempts);
    const skips = skippedNote(skipped, spec.batch_sequences);
    const planned = run.note === null ? [] : [run.note];
    const note = [...notes, ...skips, ...versions, ...advice, ...planned].join('; ') || null;
    const measured: MeasuredColumns = {
      ...rates(run, training.steps.summary(), backend.peakFlopsPerSecond),
      loss,
      loss_routing: loss === null ? null : 'topk',
      peak_memory_bytes: backend.peakMemoryBytes(),
      wall_s: training.wallSeconds,
      device: backend.device,
      started_at: manifest.started_at,
      finished_at: new Date(now()).toISOString(),
      git_commit: manifest.git_commit,
      data_hash: dataHash(files),
      data_passes: (spec.steps * spec.batch_sequences) / data.batches.windows,
    };
    const { name, precision } = backend;
    writeResult(folder, { ...planRow(run), ...measured, backend: name, precision, status, note });
    return { runId: run_id, status, note };
  };
  const interrupted = (where: string): RunEnd => ({
    runId: run_id,
    status: 'interrupted',
    note: `stopped by ${stop.reason} ${where}; resumes from there`,
  });
  try {
    const end = await training.run();
    if (end.kind === 'stopped') return interrupted(`after step ${training.step} of ${spec.steps}`);
    if (end.kind === 'diverged') {
      const what = `the loss or the gradient norm of step ${end.step} is not a finite number`;
      return finish('diverged', [what], null);
    }
    const results = await evaluateRun(options, training.model, heldout.windows, training.microBatch);
    writeEvaluations(
      folder,
      results.map(({ row }) => row),
    );
    writeHeldoutLosses(folder, lossesByMode(results));
    const done = finish('done', [], results[0].row.loss);
    const { checkpoints, evaluationProgress } = runFiles(folder);
    rmSync(evaluationProgress, { force: true });
    keepLatest(checkpoints);
    return done;
  } catch (error) {
    if (error instanceof InterruptedError) return interrupted('during evaluation');
    throw error;
  } finally {
    data.close();
    heldout.close();
  }
}

/** Removes the earlier result, and unless the run resumes all earlier files: they would count as results of this run. */
function removeStaleFiles(folder: string, resumes: boolean): void {
  const { result, evaluation, heldoutLosses, evaluationProgress, steps, checkpoints } = runFiles(folder);
  const started = [evaluation, heldoutLosses, evaluationProgress, steps, checkpoints];
  const stale = resumes ? [result] : [result, ...started];
  for (const path of stale) rmSync(path, { recursive: true, force: true });
}

function skippedNote(skipped: ReadonlySet<number>, batchSequences: number): string[] {
  if (skipped.size === 0) return [];
  const batches = [...skipped].sort((a, b) => a - b).map((first) => `${first}-${first + batchSequences - 1}`);
  return [
    `skipped the batches of sequences ${batches.join(', ')}: their loss or gradient norm was not finite`,
  ];
}

/**
 * Sequences of the first micro-batch: the sweep file's number, else estimated from the GPU's free memory, which other processes
 * may use too. Deterministic runs are planned from its total memory: their sums have the same order when they train again.
 */
function firstMicroBatch({ spec }: PlannedRun, { name, precision, memory }: ChosenBackend): number {
  const { micro_batch_sequences, deterministic } = spec.training;
  const bytes = memory();
  const memoryBytes = bytes === null ? null : deterministic ? bytes.total : bytes.free;
  return (
    micro_batch_sequences ??
    microBatchSequences(spec.model, spec.batch_sequences, { name, precision, memoryBytes })
  );
}

async function evaluateRun(
  { run, folder, baseDir, backend, stop, send, now }: ExecuteRunOptions,
  model: Transformer,
  windows: Parameters<typeof evaluateModes>[1],
  microBatch: number,
): Promise<[ModeResult, ...ModeResult[]]> {
  const { spec, run_id, config_hash } = run;
  const modes = spec.evaluation.autoregressive ? weightsModes(model) : (['topk'] as const);
  const subject = { config_hash, steps: spec.steps, windows: windows.count, backend: backend.name };
  const results = await evaluateModes(model, windows, {
    runId: run_id,
    modes,
    sequences: spec.evaluation.sequences,
    batchSequences: microBatch,
    seed: spec.seed,
    endOfText: await heldoutEndOfText(spec.data, baseDir),
    backend,
    now,
    progress: new EvaluationProgress(runFiles(folder).evaluationProgress, subject),
    onProgress: (_, mode, done, total) => {
      send({ type: 'evaluating', runId: run_id, mode, done, total });
      if (stop.reason !== null) throw new InterruptedError(`stopped by ${stop.reason}`);
    },
  });
  return results as [ModeResult, ...ModeResult[]];
}

function progress(
  { run_id, spec }: PlannedRun,
  { step, loss, stepMs }: StepReport,
  firstStep: number,
  elapsedMs: number,
): RunMessage {
  const steps = Math.max(1, step - firstStep); // zero or negative after a return to an earlier checkpoint
  const tokens = steps * spec.batch_sequences * spec.model.sequence_length;
  return {
    type: 'step',
    runId: run_id,
    step,
    loss,
    tokensPerSecond: (tokens * 1000) / elapsedMs,
    secondsLeft: ((spec.steps - step) * elapsedMs) / steps / 1000,
    stepMs,
  };
}

/** The columns of a row that follow from its steps. Utilization is relative to the peak FLOP/s; null if unknown. */
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
