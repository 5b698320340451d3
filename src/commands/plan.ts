/** `mod plan`: the runs of a sweep file with their tokens, disk space and hours, before training. */

import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { type BenchRecord, benchRecordPath, readBenchRecords } from '../bench/record.js';
import {
  checkpointBytes,
  finalCheckpointBytes,
  sweepCheckpointBytes,
  weightBytes,
} from '../checkpoint/disk-space.js';
import { shapeNamed, shapeProblem } from '../config/shapes.js';
import { loadSweepFile, type SweepFile } from '../config/sweep-file.js';
import { openTokens } from '../data/tokens.js';
import { InputError } from '../errors.js';
import { jsonText } from '../files/numbers.js';
import { bytes, count, counted, duration, firstOf, rate } from '../format.js';
import { type FlopTerms, flopsPerPass } from '../model/flops.js';
import { expandSweep } from '../plan/expand.js';
import type { FlopsTarget } from '../plan/match-flops.js';
import type { PlannedRun } from '../plan/run.js';
import { baselinesOf } from '../report/baseline.js';
import { testableClaims } from '../report/testable-claims.js';
import { budgetName, significant } from '../report/words.js';
import type { RunRow } from '../results/columns.js';
import { isNearWidth } from '../results/pace.js';
import { planRow, readManifest, specDifferences } from '../results/run-folder.js';
import { hasEnded } from '../results/run-status.js';
import { findSweep, orphanRuns, runFolder } from '../results/sweep-folder.js';
import { currentRows } from '../results/tables.js';
import { type RunProgress, sweepProgress } from '../sweep/status.js';
import { batchScale, isFarFromBase } from '../train/parametrization.js';
import { type OpenTokens, PlannedData } from './plan-data.js';
import { nearestRate } from './plan-hours.js';
import { type FittedColumn, fittedTable, terminalOf } from './terminal.js';

/** A row of --json: the row of runs.csv at present, plus the columns of the plan. */
export interface PlanRow extends RunRow {
  /** Keys in which a run that has ended differs from this file, which mod sweep rejects: `seed: 0 → 1`; none otherwise. */
  changed: string[];
  /** Share of the steps that is done. */
  share: number;
  /** (train_flops - flop_budget) / flop_budget; positive if the run exceeds its budget. */
  budget_error: number;
  /** Passes over the training data; null if the data is missing. */
  epochs: number | null;
  /** Disk space of a checkpoint that training resumes from; null if the point is not feasible. */
  checkpoint_bytes: number | null;
  /** Disk space of the final weights; null if the point is not feasible. */
  final_bytes: number | null;
  /** Training hours of the whole run at the rate of the nearest measurement; null if there is none near. */
  hours: number | null;
  /** That measurement: `run` and the id of a finished run of this sweep, or a shape that `mod bench` has timed here. */
  hours_from: string | null;
  flops_terms: FlopTerms;
}

/** Claims that are listed without --wide. */
const FEW_CLAIMS = 3;

export interface PlanCommandOptions {
  json: boolean;
  results: string;
  /** Replaces the file's model sizes: a shape, or a finished sweep. */
  matchFlops?: string;
  /** `key=value` texts that replace values of the file. */
  set?: readonly string[];
  /** All columns, also those that do not fit the terminal. */
  wide?: boolean;
}

/** More passes over the same text than this improve the loss little (Muennighoff et al. 2023, arXiv 2305.16264). */
const MANY_EPOCHS = 4;
const BUDGET_TOLERANCE = 0.01;

/**
 * Prints the plan of a sweep file before a sweep: the runs with what is done, changed or missing, the infeasible points, the
 * total of time and disk space that is left, and warnings; with `json` an array of rows. Missing data is a warning.
 *
 * @throws InputError for an invalid file, or one without a feasible point
 */
export async function planCommand(
  configPath: string,
  options: PlanCommandOptions,
  out: (text: string) => void,
  open: OpenTokens = openTokens,
  measured: readonly BenchRecord[] = readBenchRecords(benchRecordPath()),
  columns: number = terminalOf(process.stdout).columns,
): Promise<void> {
  const { json, results, matchFlops, set = [], wide = false } = options;
  const written = loadSweepFile(configPath, set);
  const file = matchFlops === undefined ? written : withMatchedSizes(written, matchFlops, results);
  const matches = new Map<string, string>();
  const baselines = baselinesOf(file, results);
  const runs = expandSweep(file, (sweep, budget) => {
    const target = baselines(sweep, budget);
    matches.set(`${sweep} ${budget}`, matchText(sweep, budget, target));
    return target;
  });
  const data = new PlannedData(file.dir, open);
  for (const run of runs) await data.add(run);
  data.close();
  const folder = join(results, file.name);
  const current = sweepProgress(folder, runs).runs;
  const finished = currentRows(folder, runs).filter(({ status }) => status === 'done');
  const rows = runs.map((run, i) =>
    rowOf(folder, run, current[i] as RunProgress, data.trainTokens(run), finished, measured),
  );
  if (json) {
    out(jsonText(rows, 1));
    return;
  }
  const feasible = rows.filter(({ status }) => status !== 'skipped');
  const skipped = rows.filter(({ status }) => status === 'skipped');
  const left = runs.filter((_, i) => rows[i]?.status !== 'skipped' && !hasEnded(rows[i]?.status));
  const warnings = [...data.warnings, ...batchWarnings(runs), ...warningsOf(feasible)];
  const orphans = existsSync(folder) ? orphanRuns(folder, runs) : [];
  const ended = tally(feasible);
  const parts = [
    `${file.name}: ${feasible.length} of ${rows.length} runs can be trained${ended === '' ? '' : `: ${ended}`}`,
    fittedTable(columnsOf(feasible), feasible, wide ? Number.POSITIVE_INFINITY : columns),
    totalsText(feasible, left, measured.length > 0),
    ...section(
      'Ended under another config: mod sweep rejects this file until it is restored or renamed, or the folder is removed',
      rows
        .filter(({ changed }) => changed.length > 0)
        .map(({ run_id, changed }) => `${run_id}: ${changed.join(', ')}`),
    ),
    ...section(
      'Not feasible',
      skipped.map(({ run_id, note }) => `${run_id}: ${note}`),
    ),
    ...section(
      'Equal points',
      runs.flatMap(({ run_id, status, note }) =>
        status === 'skipped' || note === null ? [] : [`${run_id}: ${note}`],
      ),
    ),
    ...section(
      'No longer in this file: their folders are kept and shown nowhere',
      orphans.length === 0 ? [] : [firstOf(orphans).join(', ')],
    ),
    ...section('Matched', [...matches.values()]),
    ...claimsSection(runs, wide),
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

function rowOf(
  folder: string,
  run: PlannedRun,
  { status, share }: RunProgress,
  trainTokens: number | null,
  finished: readonly RunRow[],
  measured: readonly BenchRecord[],
): PlanRow {
  const { spec, train_flops, tokens } = run;
  const feasible = run.status === 'pending';
  const rate = feasible ? nearestRate(run, finished, measured) : null;
  const near = rate !== null && isNearWidth(rate.d_model, spec.model.d_model) ? rate : null;
  const manifest = hasEnded(status) ? readManifest(runFolder(folder, run.run_id)) : null;
  return {
    ...planRow(run),
    status,
    share,
    changed: manifest === null ? [] : specDifferences(manifest.spec, spec),
    budget_error: (train_flops - spec.flop_budget) / spec.flop_budget,
    epochs: trainTokens === null ? null : tokens / trainTokens,
    checkpoint_bytes: feasible ? checkpointBytes(run.params_total) : null,
    final_bytes: feasible ? weightBytes(run) : null,
    hours: near === null ? null : train_flops / near.flops_per_second / 3600,
    hours_from: near?.from ?? null,
    flops_terms: flopsPerPass(spec.model),
  };
}

/** The columns of the table; the status only if a run has one. */
function columnsOf(rows: readonly PlanRow[]): FittedColumn<PlanRow>[] {
  const status = {
    head: 'status',
    cell: ({ status: is, changed }: PlanRow) => (changed.length > 0 ? `${is}, changed` : is),
    drop: 0,
  };
  return [
    { head: 'run', cell: ({ run_id }) => run_id, drop: 0 },
    ...(rows.some(({ status: is }) => is !== 'pending') ? [status] : []),
    { head: 'params', cell: ({ params_total }) => rate(params_total), drop: 0 },
    { head: 'steps', cell: ({ steps }) => count(steps), drop: 0 },
    { head: 'tokens', cell: ({ tokens }) => rate(tokens), drop: 6 },
    { head: 'FLOPs/pass', cell: ({ flops_per_pass }) => flops_per_pass.toExponential(3), drop: 3 },
    { head: 'vs dense', cell: (row) => row.flops_per_pass_vs_dense.toFixed(3), drop: 7 },
    { head: 'train FLOPs', cell: ({ train_flops }) => train_flops.toExponential(3), drop: 1 },
    { head: 'of budget', cell: ({ budget_error }) => signedPercent(budget_error), drop: 2 },
    {
      head: 'epochs',
      cell: ({ epochs }) => (epochs === null ? '-' : significant(Number(epochs.toPrecision(2)))),
      drop: 5,
    },
    {
      head: 'checkpoint',
      cell: ({ checkpoint_bytes }) => (checkpoint_bytes === null ? '-' : bytes(checkpoint_bytes)),
      drop: 4,
    },
    { head: 'time', cell: ({ hours }) => (hours === null ? '-' : duration(3600 * hours)), drop: 0 },
  ];
}

/** `5 done, 1 interrupted, 3 pending`; empty if no run has been started. */
function tally(rows: readonly PlanRow[]): string {
  const counts = new Map<string, number>();
  for (const { status } of rows) counts.set(status, (counts.get(status) ?? 0) + 1);
  if (counts.size <= 1 && counts.has('pending')) return '';
  return [...counts].map(([status, many]) => `${many} ${status}`).join(', ');
}

/** FLOPs, disk space and hours of the runs that are left. */
function totalsText(rows: PlanRow[], left: readonly PlannedRun[], isMeasured: boolean): string {
  const ids = new Set(left.map(({ run_id }) => run_id));
  const open = rows.filter(({ run_id }) => ids.has(run_id));
  if (open.length === 0) return 'Nothing is left to train.';
  const sum = (of: (row: PlanRow) => number) => open.reduce((total, row) => total + of(row), 0);
  const known = open.filter(({ hours }) => hours !== null);
  const sources = firstOf([...new Set(known.map(({ hours_from }) => hours_from as string))], 3).join(', ');
  const hours = sum((row) => (row.hours ?? 0) * (1 - row.share));
  const time =
    known.length === open.length
      ? `about ${duration(3600 * hours)} of training, one run at a time, at the rate of ${sources}`
      : hoursUnknown(open, left, isMeasured);
  const during = sweepCheckpointBytes(left, 1);
  const disk = `${bytes(during)} of disk space for checkpoints with one run at a time, ${bytes(finalCheckpointBytes(left))} of it for weights that stay`;
  const some = open.length === rows.length ? 'Total' : `Left, ${counted(open.length, 'run')}`;
  return `${some}: ${sum(({ train_flops, share }) => train_flops * (1 - share)).toExponential(2)} FLOPs; ${disk}; ${time}.`;
}

/** Why the hours are unknown, and the command that measures them. */
function hoursUnknown(open: readonly PlanRow[], left: readonly PlannedRun[], isMeasured: boolean): string {
  const without = new Set(open.filter(({ hours }) => hours === null).map(({ run_id }) => run_id));
  const largest = maxBy(
    left.filter(({ run_id }) => without.has(run_id)),
    ({ train_flops }) => train_flops,
  ).spec;
  const { d_model, n_layers, sequence_length, vocab_size } = largest.model;
  const shape = `d${d_model}l${n_layers}t${sequence_length}b${largest.batch_sequences}v${vocab_size}`;
  const reason = isMeasured
    ? ', which has measured no width within a factor of ten with this backend and precision'
    : '';
  return `hours unknown for ${counted(without.size, 'run')}: run mod bench --shape ${shape} on this machine${reason}`;
}

/** Warns of batches for which the rule of `complete` is a guess. */
function batchWarnings(runs: readonly PlannedRun[]): string[] {
  const far = runs.filter(({ status, spec }) => status === 'pending' && isFarFromBase(spec));
  const [first] = far;
  if (first === undefined) return [];
  const { base } = first.spec.training;
  const tokens = first.spec.batch_sequences * first.spec.model.sequence_length;
  return [
    `the batch of ${counted(far.length, 'run')} is ${significant(batchScale(first.spec))} times that of training.base, where the learning rate is scaled by a rule for a quarter to four times: ${count(tokens)} tokens in ${first.run_id}, the base has ${count(base?.batch_tokens ?? 0)}. Change batch_sequences, or give training.base the batch at which the rate was tuned`,
  ];
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

/** Which of the paper's claims the runs can decide once they are done, and what the others lack; all of these if wide. */
function claimsSection(runs: readonly PlannedRun[], wide: boolean): string[] {
  const claims = testableClaims(runs);
  if (claims.length === 0) return [];
  const lacking = claims.flatMap(({ claim, missing }) => (missing === null ? [] : [`${claim} ${missing}`]));
  const some = wide ? lacking : lacking.slice(0, FEW_CLAIMS);
  const rest = lacking.length - some.length;
  const decided = `These runs can decide ${claims.length - lacking.length} of ${claims.length} claims of the paper`;
  if (lacking.length === 0) return [`${decided}.`];
  return section(`${decided}. Not`, [...some, ...(rest > 0 ? [`and ${rest} more: --wide`] : [])]);
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
