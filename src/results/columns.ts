/** The columns of runs.csv, eval.csv and steps.csv: one entry per column, in the order of the file. The rest is derived. */
import type { BackendName } from '../backends/names.js';
import type { Precision } from '../backends/precisions.js';
import type { CsvColumn } from '../files/csv.js';
import type { RouterName, RoutingMode } from '../model/config.js';
import type { ParametrizationName } from '../model/parametrization.js';
import type { Variant } from '../model/variants.js';
import type { Gate } from '../ops/gates.js';
import type { RunStatus } from './run-status.js';

/** The value of a cell, by the type of its column. Every type but `number` is text in the file. */
interface CellTypes {
  number: number;
  text: string;
  /** ISO 8601 in UTC. */
  time: string;
  status: RunStatus;
  variant: Variant;
  router: RouterName;
  gate: Gate;
  routing: RoutingMode;
  backend: BackendName;
  precision: Precision;
  parametrization: ParametrizationName;
}

interface Column extends CsvColumn {
  type: keyof CellTypes;
  /** The unit in docs/results.md; none for counts, names and words. */
  unit?: string;
  /** Cells may be empty: the value is unknown or does not apply. Such a value is never written as 0. */
  nullable?: true;
  /** Differs if the same run is trained again; all other columns are reproducible. */
  timing?: true;
}

/** A measured column is null in the plan's row: the process that trains the run computes it. */
type RunColumn = Column & ({ measured?: never } | { measured: true; nullable: true });

/** runs.csv: one row per run. */
export const RUN_TABLE = {
  run_id: { type: 'text' },
  status: { type: 'status' },
  variant: { type: 'variant' },
  flop_budget: { type: 'number', unit: 'FLOPs' },
  capacity: { type: 'number', unit: 'share', nullable: true },
  routing_frequency: { type: 'number', unit: 'blocks', nullable: true },
  router: { type: 'router', nullable: true },
  gate: { type: 'gate', nullable: true },
  params_total: { type: 'number', unit: 'parameters' },
  params_non_embedding: { type: 'number', unit: 'parameters' },
  d_model: { type: 'number' },
  n_layers: { type: 'number' },
  n_heads: { type: 'number' },
  d_ff: { type: 'number' },
  sequence_length: { type: 'number', unit: 'tokens' },
  batch_sequences: { type: 'number', unit: 'sequences' },
  steps: { type: 'number', unit: 'steps' },
  tokens: { type: 'number', unit: 'tokens' },
  flops_per_pass: { type: 'number', unit: 'FLOPs' },
  flops_per_pass_vs_dense: { type: 'number', unit: 'ratio' },
  train_flops: { type: 'number', unit: 'FLOPs' },
  /** Held-out LM loss under the training pass. */
  loss: { type: 'number', unit: 'nats per token', nullable: true, measured: true },
  loss_routing: { type: 'routing', nullable: true, measured: true },
  /** Mean LM loss of the last tenth of the steps. */
  train_loss: { type: 'number', unit: 'nats per token', nullable: true, measured: true },
  /** Median time of a step, including the device's work, without the first tenth of the steps. */
  step_ms: { type: 'number', unit: 'ms', nullable: true, measured: true, timing: true },
  tokens_per_s: { type: 'number', unit: 'tokens/s', nullable: true, measured: true, timing: true },
  model_flops_utilization: { type: 'number', unit: 'share', nullable: true, measured: true, timing: true },
  peak_memory_bytes: { type: 'number', unit: 'bytes', nullable: true, measured: true, timing: true },
  wall_s: { type: 'number', unit: 's', nullable: true, measured: true, timing: true },
  backend: { type: 'backend', nullable: true },
  device: { type: 'text', nullable: true, measured: true, timing: true },
  precision: { type: 'precision', nullable: true },
  seed: { type: 'number' },
  started_at: { type: 'time', nullable: true, measured: true, timing: true },
  finished_at: { type: 'time', nullable: true, measured: true, timing: true },
  git_commit: { type: 'text', nullable: true, measured: true, timing: true },
  config_hash: { type: 'text', unit: 'SHA-256' },
  note: { type: 'text', nullable: true },
  /** Parameters that one token's pass may use; null without experts: all of them. */
  params_active: { type: 'number', unit: 'parameters', nullable: true, optional: true },
  /**
   * Share of tokens that chose each expert, from the most chosen to the least in every block, means over blocks: numbers
   * separated by spaces. This column and the next two are means over the last tenth of the steps.
   */
  expert_load: { type: 'text', unit: 'shares', nullable: true, measured: true, optional: true },
  /** Share of tokens that chose an expert without a free slot. */
  expert_dropped: { type: 'number', unit: 'share', nullable: true, measured: true, optional: true },
  /** Share of tokens that chose a no-op; null without no-ops. */
  expert_no_op: { type: 'number', unit: 'share', nullable: true, measured: true, optional: true },
  /** Quartiles of the step times that `step_ms` is the median of: half of the steps took between these two. */
  step_ms_q1: { type: 'number', unit: 'ms', nullable: true, measured: true, timing: true, optional: true },
  step_ms_q3: { type: 'number', unit: 'ms', nullable: true, measured: true, timing: true, optional: true },
  /** Hash of the content of the training and held-out files: of equal config hashes, it separates runs on other data. */
  data_hash: { type: 'text', nullable: true, measured: true, optional: true },
  /** Passes over the training data in all steps. */
  data_passes: { type: 'number', unit: 'passes', nullable: true, measured: true, optional: true },
  parametrization: { type: 'parametrization', nullable: true, optional: true },
  /** Peak learning rate; under `parametrization: complete` that of the base shape and batch. */
  learning_rate: { type: 'number', nullable: true, optional: true },
} as const satisfies Record<string, RunColumn>;

/** eval.csv: one row per run and routing mode. */
export const EVAL_TABLE = {
  run_id: { type: 'text' },
  routing: { type: 'routing' },
  sequences: { type: 'number', unit: 'sequences' },
  loss: { type: 'number', unit: 'nats per token' },
  /** Standard error of the loss, clustered by document; by sequence if `documents` is null. */
  loss_se: { type: 'number', unit: 'nats per token', nullable: true },
  loss_minus_topk: { type: 'number', unit: 'nats per token', nullable: true },
  flops_per_pass: { type: 'number', unit: 'FLOPs' },
  /** Share of tokens that are selected, mean over routed blocks; null for a dense model. */
  participation: { type: 'number', unit: 'share', nullable: true },
  predictor_accuracy: { type: 'number', unit: 'share', nullable: true },
  always_skip_accuracy: { type: 'number', unit: 'share', nullable: true },
  predictor_precision: { type: 'number', unit: 'share', nullable: true },
  predictor_recall: { type: 'number', unit: 'share', nullable: true },
  tokens_per_s: { type: 'number', unit: 'tokens/s', nullable: true, timing: true },
  peak_memory_bytes: { type: 'number', unit: 'bytes', nullable: true, timing: true },
  backend: { type: 'backend' },
  device: { type: 'text', nullable: true, timing: true },
  evaluated_at: { type: 'time', timing: true },
  /** Documents that the sequences belong to; null if their ends are unknown. */
  documents: { type: 'number', unit: 'documents', nullable: true, optional: true },
  /** Standard error of `loss_minus_topk`, of differences paired by token, clustered as `loss_se`. */
  loss_minus_topk_se: { type: 'number', unit: 'nats per token', nullable: true, optional: true },
} as const satisfies Record<string, Column>;

/** steps.csv: one row per step. In a run of more than 1,000 steps a row covers several, with means of loss, accuracy and time. */
export const STEP_TABLE = {
  step: { type: 'number' },
  /** Tokens trained on so far. */
  tokens: { type: 'number', unit: 'tokens' },
  loss: { type: 'number', unit: 'nats per token' },
  heldout_loss: { type: 'number', unit: 'nats per token', nullable: true },
  learning_rate: { type: 'number' },
  grad_norm: { type: 'number' },
  predictor_accuracy: { type: 'number', unit: 'share', nullable: true },
  step_ms: { type: 'number', unit: 'ms', timing: true },
  /** Shares of the tokens, as in a run's row; null without experts. */
  expert_load: { type: 'text', unit: 'shares', nullable: true, optional: true },
  expert_dropped: { type: 'number', unit: 'share', nullable: true, optional: true },
  expert_no_op: { type: 'number', unit: 'share', nullable: true, optional: true },
} as const satisfies Record<string, Column>;

type Row<Table extends Record<string, Column>> = {
  -readonly [Name in keyof Table]:
    | CellTypes[Table[Name]['type']]
    | (Table[Name] extends { nullable: true } ? null : never);
};

export type RunRow = Row<typeof RUN_TABLE>;
export type EvalRow = Row<typeof EVAL_TABLE>;
export type StepRow = Row<typeof STEP_TABLE>;

type MeasuredColumn = {
  [Name in keyof RunRow]: (typeof RUN_TABLE)[Name] extends { measured: true } ? Name : never;
}[keyof RunRow];

/** The part of a run's row that follows from the plan, and the part that is measured. */
export type PlannedColumns = Omit<RunRow, MeasuredColumn>;
export type MeasuredColumns = Pick<RunRow, MeasuredColumn>;

export const RUN_COLUMNS = namesOf(RUN_TABLE);
export const EVAL_COLUMNS = namesOf(EVAL_TABLE);
export const STEP_COLUMNS = namesOf(STEP_TABLE);

/** A row without a value, in the order of the columns. */
export const EMPTY_RUN = Object.fromEntries(RUN_COLUMNS.map((name) => [name, null])) as Record<
  keyof RunRow,
  null
>;

/** Columns that differ if the same run is trained again. */
export const TIME_COLUMNS: ReadonlySet<string> = new Set(
  [RUN_TABLE, EVAL_TABLE, STEP_TABLE].flatMap((table: Record<string, Column>) =>
    Object.keys(table).filter((name) => table[name]?.timing),
  ),
);

function namesOf<Name extends string>(table: Record<Name, Column>): readonly Name[] {
  return Object.keys(table) as Name[];
}
