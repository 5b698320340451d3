/** `mod plan`: the runs of a sweep file with their tokens, disk space and hours, before training. */
import { relative } from 'node:path';
import { type BenchRecord, benchRecordPath, nearestRecord, readBenchRecords } from '../bench/record.js';
import { checkpointBytes } from '../checkpoint/disk-space.js';
import { shapeNamed, shapeProblem } from '../config/shapes.js';
import { loadSweepFile, type SweepFile } from '../config/sweep-file.js';
import type { DataConfig } from '../data/config.js';
import { dataTokenizer } from '../data/tokenizers.js';
import { openTokens } from '../data/tokens.js';
import { InputError } from '../errors.js';
import { canonicalJson } from '../files/canonical.js';
import { bytes, count, counted, duration, rate, table } from '../format.js';
import { type FlopTerms, flopsPerPass } from '../model/flops.js';
import { expandSweep } from '../plan/expand.js';
import type { FlopsTarget } from '../plan/match-flops.js';
import type { PlannedRun } from '../plan/run.js';
import { baselinesOf } from '../report/baseline.js';
import { budgetName, significant } from '../report/words.js';
import type { RunRow } from '../results/columns.js';
import { planRow } from '../results/run-folder.js';
import { findSweep } from '../results/sweep-folder.js';

/** Opens the tokens of a sweep; injected in tests. */
export type OpenTokens = (
  data: DataConfig,
  role: 'train' | 'heldout',
  baseDir: string,
) => { readonly tokens: number; close(): void };

/** A row of --json: the row of runs.csv before training, plus the columns of the plan. */
export interface PlanRow extends RunRow {
  /** (train_flops - flop_budget) / flop_budget; positive if the run exceeds its budget. */
  budget_error: number;
  learning_rate: number;
  /** Passes over the training data; null if the data is missing. */
  epochs: number | null;
  /** Disk space of a checkpoint; null if the point is not feasible. */
  checkpoint_bytes: number | null;
  /** Training hours at the rate that `mod bench` measured on this machine for the nearest shape; null if unknown. */
  hours: number | null;
  /** That shape, in the notation of `mod bench --shape`. */
  hours_from: string | null;
  flops_terms: FlopTerms;
}

export interface PlanCommandOptions {
  json: boolean;
  results: string;
  /** Replaces the file's model sizes: a shape, or a finished sweep. */
  matchFlops?: string;
  /** `key=value` texts that replace values of the file. */
  set?: readonly string[];
}

/** More passes over the same text than this improve the loss little (Muennighoff et al. 2023, arXiv 2305.16264). */
const MANY_EPOCHS = 4;
const BUDGET_TOLERANCE = 0.01;

/**
 * Prints the plan of a sweep file: a table, the infeasible points and warnings; with `json` an array of rows. Missing
 * data is a warning.
 *
 * @throws InputError for an invalid file, or one without a feasible point
 */
export async function planCommand(
  configPath: string,
  options: PlanCommandOptions,
  out: (text: string) => void,
  open: OpenTokens = openTokens,
  measured: readonly BenchRecord[] = readBenchRecords(benchRecordPath()),
): Promise<void> {
  const { json, results, matchFlops, set = [] } = options;
  const written = loadSweepFile(configPath, set);
  const file = matchFlops === undefined ? written : withMatchedSizes(written, matchFlops, results);
  const matches = new Map<string, string>();
  const baselines = baselinesOf(file, results);
  const runs = expandSweep(file, (sweep, budget) => {
    const target = baselines(sweep, budget);
    matches.set(`${sweep} ${budget}`, matchText(sweep, budget, target));
    return target;
  });
  const data = new DataSizes(file.dir, open);
  const rows = runs.map((run) => rowOf(run, data.tokens(run.spec.data).train, measured));
  if (json) {
    out(JSON.stringify(rows, null, 1));
    return;
  }
  const feasible = rows.filter(({ status }) => status === 'pending');
  const skipped = rows.filter(({ status }) => status === 'skipped');
  const warnings = [...data.missing, ...shortDataWarnings(runs, data), ...warningsOf(feasible)];
  const parts = [
    `${file.name}: ${feasible.length} of ${rows.length} runs can be trained`,
    planTable(feasible),
    totalsText(feasible, measured.length > 0),
    ...section(
      'Not feasible',
      skipped.map(({ run_id, note }) => `${run_id}: ${note}`),
    ),
    ...section('Matched', [...matches.values()]),
    ...section('Warnings', warnings),
  ];
  out(parts.join('\n\n'));
}

/** The file with its model sizes replaced by `--match-flops`. */
function withMatchedSizes(file: SweepFile, baseline: string, resultsDir: string): SweepFile {
  const problem = shapeProblem(baseline);
  if (problem !== null) throw new InputError(`--match-flops ${baseline}: not a valid shape: ${problem}`);
  const match_flops = shapeNamed(baseline) ?? findSweep(baseline, resultsDir).sweepFolder;
  const products = file.products.map((product) => ({ ...product, model_sizes: { match_flops } }));
  return { ...file, products };
}

function matchText(sweep: string, budget: number, { shape, flopsPerPass }: FlopsTarget): string {
  const flops = flopsPerPass?.toExponential(3);
  return `budget ${budgetName(budget)}: ${flops} FLOPs per pass, the optimal baseline of ${relative('', sweep)}, near ${shape.name}`;
}

function rowOf(run: PlannedRun, trainTokens: number | null, measured: readonly BenchRecord[]): PlanRow {
  const { spec, backend, status, train_flops, tokens } = run;
  const { precision, model } = spec;
  const feasible = status === 'pending';
  const routed = model.routing !== null || model.experts !== null;
  const query = { backend, precision, d_model: model.d_model, routed };
  const record = feasible ? nearestRecord(measured, query) : null;
  return {
    ...planRow(run),
    budget_error: (train_flops - spec.flop_budget) / spec.flop_budget,
    learning_rate: spec.training.learning_rate,
    epochs: trainTokens === null ? null : tokens / trainTokens,
    checkpoint_bytes: feasible ? checkpointBytes(run.params_total) : null,
    hours: record === null ? null : train_flops / record.flops_per_second / 3600,
    hours_from: record?.shape ?? null,
    flops_terms: flopsPerPass(spec.model),
  };
}

/** Null if missing. */
type DataTokens = Record<'train' | 'heldout', number | null>;

/** Token counts of the data. Opens each data configuration once and collects messages about missing data. */
class DataSizes {
  readonly missing: string[] = [];
  private readonly sizes = new Map<string, DataTokens>();

  constructor(
    private readonly baseDir: string,
    private readonly open: OpenTokens,
  ) {}

  tokens(data: DataConfig): DataTokens {
    const key = canonicalJson(data);
    const known = this.sizes.get(key);
    if (known !== undefined) return known;
    const tokens = { train: this.count(data, 'train'), heldout: this.count(data, 'heldout') };
    this.tryOpen('no tokenizer', () => dataTokenizer(data, this.baseDir));
    this.sizes.set(key, tokens);
    return tokens;
  }

  private count(data: DataConfig, role: 'train' | 'heldout'): number | null {
    const what = role === 'train' ? 'training data, epochs are unknown' : 'held-out data';
    return this.tryOpen(`no ${what}`, () => {
      const source = this.open(data, role, this.baseDir);
      source.close();
      return source.tokens;
    });
  }

  /** Returns null and adds a line to `missing` if `open` throws an InputError. */
  private tryOpen<T>(what: string, open: () => T): T | null {
    try {
      return open();
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      this.missing.push(`${what}: ${error.message}`);
      return null;
    }
  }
}

/** Warnings for data shorter than one sequence, which `mod sweep` rejects. */
function shortDataWarnings(runs: readonly PlannedRun[], data: DataSizes): string[] {
  const short = runs
    .filter(({ status }) => status === 'pending')
    .flatMap(({ spec }) => {
      const { sequence_length } = spec.model;
      const { train, heldout } = data.tokens(spec.data);
      const line = (what: string, tokens: number | null) =>
        tokens === null || tokens > sequence_length
          ? []
          : [
              `the ${what} data is too short, mod sweep rejects it: ${count(tokens)} tokens, at least ${count(sequence_length + 1)} are required for a sequence of ${sequence_length} and its last target`,
            ];
      return [...line('training', train), ...line('held-out', heldout)];
    });
  return [...new Set(short)];
}

function planTable(rows: PlanRow[]): string {
  const head = [
    'run',
    'params',
    'steps',
    'tokens',
    'FLOPs/pass',
    'vs dense',
    'train FLOPs',
    'of budget',
    'epochs',
    'checkpoint',
    'time',
  ];
  const cells = rows.map((row) => [
    row.run_id,
    rate(row.params_total),
    count(row.steps),
    rate(row.tokens),
    row.flops_per_pass.toExponential(3),
    row.flops_per_pass_vs_dense.toFixed(3),
    row.train_flops.toExponential(3),
    signedPercent(row.budget_error),
    row.epochs === null ? '-' : significant(Number(row.epochs.toPrecision(2))),
    row.checkpoint_bytes === null ? '-' : bytes(row.checkpoint_bytes),
    row.hours === null ? '-' : duration(3600 * row.hours),
  ]);
  return table(head, cells);
}

/** Total FLOPs, disk space and hours of the sweep. */
function totalsText(rows: PlanRow[], isMeasured: boolean): string {
  const sum = (of: (row: PlanRow) => number | null) => rows.reduce((total, row) => total + (of(row) ?? 0), 0);
  const known = rows.filter(({ hours }) => hours !== null);
  const shapes = [...new Set(known.map(({ hours_from }) => hours_from))];
  const time =
    known.length === rows.length
      ? `about ${duration(3600 * sum(({ hours }) => hours))} of training, one run at a time, at the rate that mod bench measured for ${shapes.join(', ')}`
      : `hours unknown: run mod bench on this machine${isMeasured ? ' with this backend and precision' : ''}`;
  const disk = `${bytes(sum(({ checkpoint_bytes }) => checkpoint_bytes))} of disk space for the last checkpoint of every run`;
  return `Total: ${sum(({ train_flops }) => train_flops).toExponential(2)} FLOPs; ${disk}; ${time}.`;
}

function warningsOf(rows: PlanRow[]): string[] {
  const warnings: string[] = [];
  const most = maxBy(rows, ({ epochs }) => epochs ?? 0);
  const repeated = rows.filter(({ epochs }) => epochs !== null && epochs > MANY_EPOCHS);
  if (repeated.length > 0) {
    const worst = `${significant(most.epochs ?? 0)} in ${most.run_id}`;
    warnings.push(
      `more than ${MANY_EPOCHS} epochs over the training data in ${counted(repeated.length, 'run')}, up to ${worst}: use more text`,
    );
  }
  const off = rows.filter(({ budget_error }) => Math.abs(budget_error) > BUDGET_TOLERANCE);
  if (off.length > 0) {
    const worst = maxBy(off, ({ budget_error }) => Math.abs(budget_error));
    const how = `${percent(Math.abs(worst.budget_error))} in ${worst.run_id}, which has ${worst.steps} steps`;
    warnings.push(
      `FLOPs differ from the budget by more than 1% in ${counted(off.length, 'run')}, up to ${how}: decrease batch_sequences for more steps`,
    );
  }
  return warnings;
}

function section(title: string, lines: string[]): string[] {
  return lines.length === 0 ? [] : [[`${title}:`, ...lines.map((line) => `  ${line}`)].join('\n')];
}

function maxBy<T>(items: T[], of: (item: T) => number): T {
  return items.reduce((best, item) => (of(item) > of(best) ? item : best));
}

const percent = (share: number) => `${(100 * share).toFixed(2)}%`;
const signedPercent = (share: number) =>
  `${share < 0 ? '-' : '+'}${percent(Math.abs(share))}`.replace(/^[-+](?=0\.00%)/, '');
