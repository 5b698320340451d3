/** Synthetic sweeps with a known truth: plans of sweep files, losses and times from formulas. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseSweepFile } from '../../src/config/sweep-file.js';
import { writeCsv } from '../../src/files/csv.js';
import { hasPredictor } from '../../src/model/routers.js';
import { evaluationModes } from '../../src/model/routing-modes.js';
import { expandSweep } from '../../src/plan/expand.js';
import type { PlannedRun } from '../../src/plan/run.js';
import { randomStream } from '../../src/random.js';
import { type Analysis, writeAnalysis } from '../../src/results/analysis.js';
import { type EvalRow, STEP_TABLE, type StepRow } from '../../src/results/columns.js';
import type { LoadedRun } from '../../src/results/load.js';
import {
  planRow,
  runFiles,
  writeEvaluations,
  writeManifest,
  writeResult,
} from '../../src/results/run-folder.js';
import { runFolder, writePlan } from '../../src/results/sweep-folder.js';
import { writeTables } from '../../src/results/tables.js';
import { manifestOf } from '../results/planned-run.js';

export interface Truth {
  /** Keys of the sweep file in addition to name, data and batch. */
  file: string;
  /** Loss at the optimum of the run's setting, minus the baseline's; null: the run diverges. */
  gain: (run: PlannedRun) => number | null;
  /** FLOPs per pass at the setting's optimum, divided by the baseline's. */
  flopsFactor: (run: PlannedRun) => number;
  /** Standard deviation of a run's loss. */
  noise: number;
  /** Milliseconds per step, from the FLOPs of a step and those of the dense shape. */
  stepMs: (flops: number, denseFlops: number) => number;
  /** Relative increase of the loss in the causal modes. */
  causalRise: number;
  /** The predictor's accuracy after a share of training. */
  accuracy: (share: number) => number;
  /** Spearman's r of engagement with entropy; null: not analysed. */
  entropyCorrelation: number | null;
}

export const PAPER: Truth = {
  file: 'flop_budgets: [1e15]\ncapacities: [0.125]\nrouters: [learned, random]\n',
  gain: ({ spec }) => (spec.variant === 'mod' ? -0.03 : spec.variant === 'random' ? 0.1 : 0),
  flopsFactor: () => 1,
  noise: 0.001,
  stepMs: (flops) => flops / 1e9,
  causalRise: 0.002,
  accuracy: (share) => Math.min(0.98, 0.875 + share),
  entropyCorrelation: 0.4,
};

/** Loss of the best baseline at a budget. */
const floorAt = (budget: number) => 1.5 + 2 * (budget / 1e15) ** -0.1;
/** Nats per squared decade of FLOPs per pass from the optimum. */
const CURVATURE = 0.25;

export function plannedRuns(file: string): PlannedRun[] {
  const text = `name: made\nsequence_length: 256\nbatch_sequences: 16\ndata: {text: a, heldout_text: b}\n${file}`;
  return expandSweep(parseSweepFile('made.yaml', text));
}

/** FLOPs per pass of the optimal baseline: the middle one of the sizes. */
export function optimalFlops(runs: readonly PlannedRun[], budget: number): number {
  const dense = runs.filter(({ spec }) => spec.variant === 'baseline' && spec.flop_budget === budget);
  const sorted = dense.map(({ flops_per_pass }) => flops_per_pass).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] as number;
}

/** The finished runs of a sweep. */
export function syntheticRuns(changes: Partial<Truth> = {}): LoadedRun[] {
  const truth = { ...PAPER, ...changes };
  const plan = plannedRuns(truth.file);
  return plan.map((run) => syntheticRun(run, truth, optimalFlops(plan, run.spec.flop_budget)));
}

function syntheticRun(run: PlannedRun, truth: Truth, optimum: number): LoadedRun {
  const { spec, flops_per_pass } = run;
  const gain = truth.gain(run);
  const decades = Math.log10(flops_per_pass / (optimum * truth.flopsFactor(run)));
  const noise = truth.noise * randomStream(0, 'synthetic', run.run_id).normal();
  const loss = floorAt(spec.flop_budget) + (gain ?? 0) + CURVATURE * decades ** 2 + noise;
  const flopsPerStep = 3 * spec.batch_sequences * flops_per_pass;
  const step_ms = truth.stepMs(flopsPerStep, (flopsPerStep * run.flops_per_pass_dense) / flops_per_pass);
  const row: LoadedRun['row'] = {
    ...planRow(run),
    status: gain === null ? 'diverged' : 'done',
    note: gain === null ? 'loss is NaN at step 7' : null,
    loss: gain === null ? null : loss,
    loss_routing: 'topk',
    train_loss: loss + 0.05,
    step_ms,
    step_ms_q1: 0.99 * step_ms,
    step_ms_q3: 1.01 * step_ms,
    tokens_per_s: (spec.batch_sequences * spec.model.sequence_length * 1000) / step_ms,
    peak_memory_bytes: run.flops_per_pass,
    wall_s: (spec.steps * step_ms) / 1000,
    backend: 'wasm',
    device: 'a processor',
    precision: 'fp32',
  };
  const learned = spec.variant === 'mod';
  return {
    sweep: 'made',
    row,
    spec,
    evaluations: gain === null ? [] : evaluationsOf(run, loss, truth),
    analysis: learned && truth.entropyCorrelation !== null ? analysisOf(run, truth.entropyCorrelation) : null,
    steps: () => stepsOf(run, loss, step_ms, learned ? truth.accuracy : null),
  };
}

function evaluationsOf(run: PlannedRun, loss: number, { causalRise, accuracy }: Truth): EvalRow[] {
  const { routing } = run.spec.model;
  const topk: EvalRow = {
    run_id: run.run_id,
    routing: 'topk',
    sequences: 64,
    loss,
    loss_se: 0.01,
    loss_minus_topk: 0,
    flops_per_pass: run.flops_per_pass,
    participation: routing?.capacity ?? null,
    predictor_accuracy: routing !== null && hasPredictor(routing) ? accuracy(1) : null,
    always_skip_accuracy: routing !== null && hasPredictor(routing) ? 1 - routing.capacity : null,
    predictor_precision: null,
    predictor_recall: null,
    tokens_per_s: 1e4,
    peak_memory_bytes: null,
    backend: 'wasm',
    device: 'a processor',
    evaluated_at: '2026-01-01T00:00:00.000Z',
    documents: null,
    loss_minus_topk_se: null,
  };
  const causal = (mode: EvalRow['routing']): EvalRow => ({
    ...topk,
    routing: mode,
    loss: loss * (1 + causalRise),
    loss_minus_topk: loss * causalRise,
    flops_per_pass: 0.98 * run.flops_per_pass,
  });
  return evaluationModes(run.spec.model).map((mode) => (mode === 'topk' ? topk : causal(mode)));
}

function stepsOf(
  run: PlannedRun,
  loss: number,
  step_ms: number,
  accuracy: ((share: number) => number) | null,
): StepRow[] {
  const { steps, batch_sequences, model } = run.spec;
  const lines = Math.min(steps, 200);
  return Array.from({ length: lines }, (_, i) => {
    const step = Math.round(((i + 1) * steps) / lines);
    return {
      step,
      tokens: step * batch_sequences * model.sequence_length,
      loss: loss + 3 * Math.exp((-6 * step) / steps) + 0.02 * Math.sin(i * i),
      heldout_loss: null,
      learning_rate: 1e-3,
      grad_norm: 1,
      predictor_accuracy: accuracy?.(step / steps) ?? null,
      step_ms,
      expert_load: null,
      expert_dropped: null,
      expert_no_op: null,
    };
  });
}

function analysisOf(run: PlannedRun, r: number): Analysis {
  const blocks = Array.from({ length: run.spec.model.n_layers }, (_, i) => i).filter((i) => i % 2 === 1);
  const random = randomStream(0, 'analysis', run.run_id);
  const engaged = blocks.map(() =>
    Array.from({ length: 96 }, () => (random.uniform() < 0.125 ? 1 : 0)).join(''),
  );
  const edges = Array.from({ length: 41 }, (_, i) => -2 + 0.1 * i);
  const counts = blocks.map(() =>
    edges.slice(1).map((edge) => Math.round(1000 * Math.exp(-((edge + 0.4) ** 2) * 2))),
  );
  return {
    run_id: run.run_id,
    routing: 'topk',
    sequences: 16,
    blocks,
    heatmaps: [
      {
        sequence: 0,
        tokens: [...'the quick\u0000 brown\n fox <jumps> & over the \ud800 dog; '.repeat(3)].slice(0, 96),
        engaged,
      },
    ],
    router_weights: {
      edges,
      counts,
      engaged_counts: counts.map((row) => row.map((n, i) => (i > 26 ? n : 0))),
    },
    share_by_blocks_engaged: [...blocks, 0].map((_, i, all) => (i === 0 ? 0.6 : 0.4 / (all.length - 1))),
    correlations: [
      { with: 'entropy', coefficient: 'spearman', r, interval: [r - 0.05, r + 0.05], n: 4096 },
      { with: 'loss', coefficient: 'spearman', r: r / 2, interval: [r / 2 - 0.05, r / 2 + 0.05], n: 4096 },
    ],
    analyzed_at: '2026-01-01T00:00:00.000Z',
  };
}

/** Writes runs to a sweep folder, `results/made`, as training would; unfinished ones are only planned. */
export function writeSweep(results: string, runs: readonly LoadedRun[], name = 'made'): string {
  const sweep = join(results, name);
  mkdirSync(sweep, { recursive: true });
  const plan = runs.map(({ row, spec }): PlannedRun => {
    const { run_id, params_total, params_non_embedding, flops_per_pass, train_flops, tokens, config_hash } =
      row;
    const flops_per_pass_dense = flops_per_pass / row.flops_per_pass_vs_dense;
    const sizes = { params_total, params_non_embedding, flops_per_pass, flops_per_pass_dense };
    return {
      run_id,
      status: 'pending',
      note: null,
      spec,
      backend: 'auto',
      train_flops,
      tokens,
      config_hash,
      checkpoint: { minutes: 10, steps: 0, keep: 2, keep_final: 'all' },
      ...sizes,
    };
  });
  writePlan(sweep, { name, base_dir: '/', runs: plan });
  runs.forEach(({ row, evaluations, analysis, steps }, i) => {
    if (row.status === 'pending') return;
    const folder = runFolder(sweep, row.run_id);
    mkdirSync(folder, { recursive: true });
    writeManifest(folder, manifestOf(plan[i] as PlannedRun));
    writeResult(folder, row);
    writeEvaluations(folder, evaluations);
    writeCsv(runFiles(folder).steps, STEP_TABLE, steps());
    if (analysis !== null) writeAnalysis(folder, analysis);
  });
  writeTables(sweep, plan);
  return sweep;
}
