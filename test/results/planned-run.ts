/** A planned run for the tests of the results. */

import type { PlannedRun, RunSpec } from '../../src/plan/run.js';
import type { EvalRow } from '../../src/results/columns.js';
import type { Manifest } from '../../src/results/run-folder.js';
import { modelConfig } from '../support/model-config.js';

const spec: RunSpec = {
  variant: 'mod',
  flop_budget: 6e18,
  model: modelConfig({
    vocab_size: 256,
    d_model: 64,
    n_layers: 4,
    sequence_length: 128,
    routing: { capacity: 0.125, predictor_hidden: 64 },
  }),
  batch_sequences: 8,
  steps: 100,
  seed: 0,
  data: { text: ['a/*.txt'], heldout_text: ['b/*.txt'], tokenizer: 'bytes', vocab_size: 256 },
  training: {
    learning_rate: 0.001,
    weight_decay: 0.1,
    gradient_clip: 1,
    micro_batch_sequences: null,
    deterministic: false,
  },
  evaluation: { sequences: 64, every_steps: 0, autoregressive: true },
  precision: 'auto',
};

export function plannedRun(run_id: string, overrides: Partial<PlannedRun> = {}): PlannedRun {
  return {
    run_id,
    status: 'pending',
    note: null,
    spec,
    checkpoint: { minutes: 10, steps: 0, keep: 2, keep_final: 'all' },
    backend: 'auto',
    params_total: 1000,
    params_non_embedding: 800,
    flops_per_pass: 3e6,
    flops_per_pass_dense: 4e6,
    train_flops: 6e18,
    tokens: 102_400,
    config_hash: 'abc',
    ...overrides,
  };
}

export function manifestOf(run: PlannedRun): Manifest {
  return {
    run_id: run.run_id,
    config_hash: run.config_hash,
    seed: run.spec.seed,
    spec: run.spec,
    backend: 'wasm',
    precision: 'fp32',
    device: 'a processor',
    micro_batch_sequences: 8,
    versions: { mod: '0.1.0' },
    git_commit: null,
    started_at: '2026-01-01T00:00:00.000Z',
    attempts: [],
    skipped_batches: [],
  };
}

export function evalRow(run_id: string, routing: EvalRow['routing'], loss: number): EvalRow {
  return {
    run_id,
    routing,
    sequences: 64,
    loss,
    loss_se: 0.01,
    loss_minus_topk: 0,
    flops_per_pass: 3e6,
    participation: 0.125,
    predictor_accuracy: null,
    always_skip_accuracy: null,
    predictor_precision: null,
    predictor_recall: null,
    tokens_per_s: 1e4,
    peak_memory_bytes: null,
    backend: 'wasm',
    device: null,
    evaluated_at: '2026-01-01T00:00:00.000Z',
    documents: null,
    loss_minus_topk_se: null,
  };
}
