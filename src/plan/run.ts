/** One planned run of a sweep: what `mod plan` prints, what a training process is given, what runs.csv starts from. */
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';
import type { CheckpointPolicy } from '../config/checkpoint-policy.js';
import type { DataConfig } from '../data/config.js';
import type { ModelConfig } from '../model/config.js';
import type { Variant } from '../model/variants.js';

export interface TrainingConfig {
  /** Peak learning rate, `auto` already resolved. */
  learning_rate: number;
  weight_decay: number;
  gradient_clip: number;
  /** Sequences that pass through the model at once; null: the trainer's choice. Never changes the result. */
  micro_batch_sequences: number | null;
  deterministic: boolean;
}

export interface EvaluationConfig {
  sequences: number;
  every_steps: number;
  autoregressive: boolean;
}

/** Everything that decides a run's result; `config_hash` is its SHA-256. */
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
  /** `skipped`: a point that is not feasible, `note` says why. */
  status: 'pending' | 'skipped';
  note: string | null;
  spec: RunSpec;
  checkpoint: CheckpointPolicy;
  /** `auto` or the name of the backend that the sweep file asks for. */
  backend: RequestedBackend;
  params_total: number;
  params_non_embedding: number;
  /** Parameters that one token's pass may use; absent without experts. */
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
