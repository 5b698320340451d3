/** One planned run of a sweep: `mod plan` prints it, a training process reads it, runs.csv starts from it. */
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';
import type { CheckpointPolicy } from '../config/checkpoint-policy.js';
import type { DataConfig } from '../data/config.js';
import type { ModelConfig } from '../model/config.js';
import type { BaseShape } from '../model/parametrization.js';
import type { Variant } from '../model/variants.js';

export interface TrainingConfig {
  /** Absent: `standard`, as in runs before there was a choice. */
  parametrization?: 'complete';
  /** Of `complete`. */
  base?: BaseShape;
  /** Peak learning rate, under `complete` at the base; `auto` and multiples are resolved. */
  learning_rate: number;
  /** Under `complete` at the base. */
  weight_decay: number;
  gradient_clip: number;
  /** Sequences that pass through the model at once; null: the trainer's estimate. Does not change the result. */
  micro_batch_sequences: number | null;
  deterministic: boolean;
}

export interface EvaluationConfig {
  sequences: number;
  every_steps: number;
  autoregressive: boolean;
}

/** Everything that determines a run's result; `config_hash` is its SHA-256. */
export interface RunSpec {
  variant: Variant;
  flop_budget: number;
  model: ModelConfig;
  batch_sequences: number;
  steps: number;
  seed: number;
  data: DataConfig;
  training: TrainingConfig;
  evaluation: EvaluationConfig;
  precision: RequestedPrecision;
}

export interface PlannedRun {
  run_id: string;
  /** `skipped`: not feasible, for the reason in `note`. */
  status: 'pending' | 'skipped';
  /** Why it is not feasible, or the other capacities that it stands for; null: neither. */
  note: string | null;
  spec: RunSpec;
  checkpoint: CheckpointPolicy;
  /** As in the sweep file. */
  backend: RequestedBackend;
  params_total: number;
  params_non_embedding: number;
  /** Maximum number of parameters used by the pass of one token; absent without experts. */
  params_active?: number;
  /** Forward FLOPs of one sequence in the training pass. */
  flops_per_pass: number;
  /** The same for the dense model of this shape. */
  flops_per_pass_dense: number;
  /** steps · batch_sequences · 3 · flops_per_pass. */
  train_flops: number;
  tokens: number;
  config_hash: string;
}
