/** One planned run of a sweep: what `mod plan` prints, what a training process is given, what runs.csv starts from. */
import type { ModelConfig } from '../model/config.js';

export type Variant = 'baseline' | 'mod' | 'random' | ExpertVariant;

/** Variants whose MLPs are experts. */
export const EXPERT_VARIANTS = ['moe', 'mode-staged', 'mode-integrated', 'moe-reduced'] as const;
export type ExpertVariant = (typeof EXPERT_VARIANTS)[number];

export function isExpertVariant(variant: Variant): variant is ExpertVariant {
  return (EXPERT_VARIANTS as readonly string[]).includes(variant);
}

export type Precision = 'auto' | 'fp32' | 'bf16';
export type BackendName = 'cuda' | 'tensorflow' | 'wasm';

/** Where tokens come from, as the sweep file wrote it: paths and globs relative to that file. */
export type DataConfig =
  | { text: string[]; heldout_text: string[]; tokenizer: string; vocab_size: number }
  | { train: string[]; heldout: string[]; vocab_size: number; tokenizer: string | null; token_bytes: 1 | 2 };

/** The files that the globs of a DataConfig match: their bytes, by their paths relative to the sweep file's folder. */
export type DataFiles = Record<'train' | 'heldout', Record<string, number>>;

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

/** When a run saves what it can go on from, and what is kept of its weights. It decides no result. */
export interface CheckpointPolicy {
  /** Minutes of training from one checkpoint to the next; 0: none by time. */
  minutes: number;
  /** A checkpoint after every so many steps; 0: none by steps. */
  steps: number;
  /** How many are kept while the run trains, the newest; the one before is used where the newest is damaged. */
  keep: number;
  /** When a run is done: `best`, that of the lowest loss of each budget and variant alone. */
  keep_final: 'all' | 'best' | 'none';
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
  precision: Precision;
}

export interface PlannedRun {
  run_id: string;
  /** `skipped`: a point that is not feasible, `note` says why. */
  status: 'pending' | 'skipped';
  note: string | null;
  spec: RunSpec;
  checkpoint: CheckpointPolicy;
  /** `auto` or the name of the backend that the sweep file asks for. */
  backend: BackendName | 'auto';
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
