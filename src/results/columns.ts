/** The columns of runs.csv, eval.csv and steps.csv, in their order, and what their rows are. */

import type { BackendName } from '../backends/names.js';
import type { RouterKind, RoutingMode } from '../model/config.js';
import type { Variant } from '../model/variants.js';
import type { Gate } from '../ops/gates.js';

export type RunStatus =
  | 'pending'
  | 'running'
  | 'done'
  | 'diverged'
  | 'out-of-memory'
  | 'failed'
  | 'interrupted'
  /** Not feasible: the note says why. */
  | 'skipped';

/** One run. Null is unknown, or does not apply; it is never 0. */
export interface RunRow {
  run_id: string;
  status: RunStatus;
  variant: Variant;
  flop_budget: number;
  capacity: number | null;
  routing_frequency: number | null;
  router: RouterKind | null;
  gate: Gate | null;
  params_total: number;
  params_non_embedding: number;
  d_model: number;
  n_layers: number;
  n_heads: number;
  d_ff: number;
  sequence_length: number;
  batch_sequences: number;
  steps: number;
  tokens: number;
  flops_per_pass: number;
  flops_per_pass_vs_dense: number;
  train_flops: number;
  /** Held-out LM loss under the training pass, in nats a token. */
  loss: number | null;
  loss_routing: RoutingMode | null;
  /** Mean LM loss of the last tenth of the steps. */
  train_loss: number | null;
  /** Median, the first tenth of the steps left out, device work finished. */
  step_ms: number | null;
  tokens_per_s: number | null;
  model_flops_utilization: number | null;
  peak_memory_bytes: number | null;
  wall_s: number | null;
  backend: BackendName | null;
  device: string | null;
  precision: 'fp32' | 'bf16' | null;
  seed: number;
  /** ISO 8601, like every time. */
  started_at: string | null;
  finished_at: string | null;
  git_commit: string | null;
  config_hash: string;
  note: string | null;
  /** Parameters that one token's pass may use; null without experts: then all. */
  params_active: number | null;
  /**
   * Share of tokens that chose each expert, from the most chosen to the least in every block, means over blocks: numbers
   * with a space between. This and the two that follow are means over the last tenth of the steps.
   */
  expert_load: string | null;
  /** Share of tokens that chose an expert whose slots were taken. */
  expert_dropped: number | null;
  /** Share of tokens that chose a no-op; null where there are none. */
  expert_no_op: number | null;
}

export const RUN_COLUMNS = [
  'run_id',
  'status',
  'variant',
  'flop_budget',
  'capacity',
  'routing_frequency',
  'router',
  'gate',
  'params_total',
  'params_non_embedding',
  'd_model',
  'n_layers',
  'n_heads',
  'd_ff',
  'sequence_length',
  'batch_sequences',
  'steps',
  'tokens',
  'flops_per_pass',
  'flops_per_pass_vs_dense',
  'train_flops',
  'loss',
  'loss_routing',
  'train_loss',
  'step_ms',
  'tokens_per_s',
  'model_flops_utilization',
  'peak_memory_bytes',
  'wall_s',
  'backend',
  'device',
  'precision',
  'seed',
  'started_at',
  'finished_at',
  'git_commit',
  'config_hash',
  'note',
  'params_active',
  'expert_load',
  'expert_dropped',
  'expert_no_op',
] as const satisfies readonly (keyof RunRow)[];

/** One run in one routing mode. */
export interface EvalRow {
  run_id: string;
  routing: RoutingMode;
  sequences: number;
  loss: number;
  /** Standard error of the loss over sequences. */
  loss_se: number | null;
  loss_minus_topk: number | null;
  flops_per_pass: number;
  /** Share of tokens that took part, mean over routed blocks; null for a dense model. */
  participation: number | null;
  predictor_accuracy: number | null;
  always_skip_accuracy: number | null;
  predictor_precision: number | null;
  predictor_recall: number | null;
  tokens_per_s: number | null;
  peak_memory_bytes: number | null;
  backend: BackendName;
  device: string | null;
  evaluated_at: string;
}

export const EVAL_COLUMNS = [
  'run_id',
  'routing',
  'sequences',
  'loss',
  'loss_se',
  'loss_minus_topk',
  'flops_per_pass',
  'participation',
  'predictor_accuracy',
  'always_skip_accuracy',
  'predictor_precision',
  'predictor_recall',
  'tokens_per_s',
  'peak_memory_bytes',
  'backend',
  'device',
  'evaluated_at',
] as const satisfies readonly (keyof EvalRow)[];

/** One step, or in a run of more than a thousand several: then loss, accuracy and time are means over them. */
export interface StepRow {
  step: number;
  /** Trained on so far. */
  tokens: number;
  loss: number;
  heldout_loss: number | null;
  learning_rate: number;
  grad_norm: number;
  predictor_accuracy: number | null;
  step_ms: number;
  /** Shares of the tokens, as in a run's row; absent without experts. */
  expert_load?: string | null;
  expert_dropped?: number | null;
  expert_no_op?: number | null;
}

export const STEP_COLUMNS = [
  'step',
  'tokens',
  'loss',
  'heldout_loss',
  'learning_rate',
  'grad_norm',
  'predictor_accuracy',
  'step_ms',
  'expert_load',
  'expert_dropped',
  'expert_no_op',
] as const satisfies readonly (keyof StepRow)[];

export type Column = (typeof RUN_COLUMNS | typeof EVAL_COLUMNS | typeof STEP_COLUMNS)[number];

/** Columns that differ when the same run is trained again; all others are the same. */
export const TIME_COLUMNS: ReadonlySet<Column> = new Set<Column>([
  'step_ms',
  'tokens_per_s',
  'model_flops_utilization',
  'peak_memory_bytes',
  'wall_s',
  'device',
  'started_at',
  'finished_at',
  'evaluated_at',
  'git_commit',
]);

/** Columns that tables written by older versions lack: there they are empty. */
export const LATER_COLUMNS: ReadonlySet<Column> = new Set<Column>([
  'params_active',
  'expert_load',
  'expert_dropped',
  'expert_no_op',
]);

/** Columns that hold words; all others hold numbers. */
export const TEXT_COLUMNS: ReadonlySet<Column> = new Set<Column>([
  'run_id',
  'status',
  'variant',
  'router',
  'gate',
  'loss_routing',
  'backend',
  'device',
  'precision',
  'started_at',
  'finished_at',
  'git_commit',
  'config_hash',
  'note',
  'routing',
  'evaluated_at',
  'expert_load',
]);
