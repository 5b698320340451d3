/** Evaluates a model in several routing modes on the same held-out windows, as rows of eval.csv. */
import type { HeldoutWindows } from '../data/batches.js';
import type { ModelConfig, RoutingMode } from '../model/config.js';
import { causalFlopsPerPass, flopsPerPass } from '../model/flops.js';
import type { MicroBatchBackend } from '../model/memory.js';
import type { Transformer } from '../model/transformer.js';
import type { EvalRow } from '../results/columns.js';
import {
  differencesOf,
  type HeldoutLosses,
  heldoutLosses,
  type LossClusters,
} from '../results/heldout-losses.js';
import { clusteredMean, mean } from '../statistics.js';
import { type Evaluation, evaluate } from './heldout.js';
import type { EvaluationProgress } from './progress.js';

/** A row of eval.csv, the participation of each routed block, whose mean is in the row, and the losses by document. */
export interface ModeResult {
  row: EvalRow;
  participation: number[];
  losses: LossClusters;
}

export interface ModesOptions {
  runId: string;
  /** In the order of evaluation. `loss_minus_topk` is null for modes before `topk`. */
  modes: readonly RoutingMode[];
  sequences: number;
  batchSequences: number;
  /** As in EvaluationOptions. */
  endOfText?: number | null;
  seed: number;
  backend: Pick<MicroBatchBackend, 'name'> & { device: string; peakMemoryBytes: () => number };
  /** Milliseconds since 1970; injected in tests. */
  now: () => number;
  onProgress?: (runId: string, mode: RoutingMode, done: number, total: number) => void;
  /** Stores the state of the evaluation and resumes from it. */
  progress?: EvaluationProgress | undefined;
}

/** Evaluates in each mode, in order. The model must support all of them (`weightsProblem` returns null). */
export async function evaluateModes(
  model: Transformer,
  windows: HeldoutWindows,
  options: ModesOptions,
): Promise<ModeResult[]> {
  const { backend, onProgress } = options;
  const results: ModeResult[] = [];
  let topk: Evaluation | null = null;
  for (const mode of options.modes) {
    const started = options.now();
    const from = options.progress?.state(mode);
    const evaluation = await evaluate(model, windows, {
      ...options,
      mode,
      from,
      onProgress: (state, total) => {
        options.progress?.update(mode, state, state.sequences === total);
        onProgress?.(options.runId, mode, state.sequences, total);
      },
    });
    const finished = options.now();
    if (evaluation.mode === 'topk') topk = evaluation;
    const evaluatedNow = evaluation.sequences - (from?.sequences ?? 0);
    const tokens = evaluatedNow * model.config.sequence_length;
    const { participation, predictor, losses } = evaluation;
    const row: EvalRow = {
      run_id: options.runId,
      routing: evaluation.mode,
      sequences: evaluation.sequences,
      loss: evaluation.loss,
      loss_se: evaluation.lossStandardError,
      loss_minus_topk: topk === null ? null : evaluation.loss - topk.loss,
      flops_per_pass: flopsOf(model.config, evaluation),
      participation: participation.length === 0 ? null : mean(participation),
      predictor_accuracy: predictor?.accuracy ?? null,
      always_skip_accuracy: predictor?.alwaysSkip ?? null,
      predictor_precision: predictor?.precision ?? null,
      predictor_recall: predictor?.recall ?? null,
      tokens_per_s: evaluatedNow > 0 && finished > started ? (tokens * 1000) / (finished - started) : null,
      peak_memory_bytes: backend.peakMemoryBytes(),
      backend: backend.name,
      device: backend.device,
      evaluated_at: new Date(finished).toISOString(),
      documents: losses.unit === 'documents' ? losses.clusters.length : null,
      loss_minus_topk_se: topk === null ? null : differenceStandardError(losses, topk.losses),
    };
    results.push({ row, participation, losses });
  }
  return results;
}

/** The losses of all modes as one table. */
export function lossesByMode(results: readonly ModeResult[]): HeldoutLosses {
  return heldoutLosses(results.map(({ row, losses }) => ({ mode: row.routing, losses })));
}

/** The standard error of the difference of two losses on the same tokens, paired and clustered. */
function differenceStandardError(a: LossClusters, b: LossClusters): number | null {
  const [left, right] = [a, b].map((losses) => heldoutLosses([{ mode: 'topk', losses }])) as [
    HeldoutLosses,
    HeldoutLosses,
  ];
  return clusteredMean(differencesOf(left, 'topk', right, 'topk') ?? []).standardError;
}

/** FLOPs per pass of an evaluation: in the causal modes, of the tokens that were selected. */
function flopsOf(model: ModelConfig, { mode, participants }: Evaluation): number {
  return mode === 'topk' ? flopsPerPass(model).total : causalFlopsPerPass(model, mode, participants).total;
}
