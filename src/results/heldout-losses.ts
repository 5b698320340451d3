/**
 * heldout-losses.csv in a run's folder: sums of the held-out losses by document and routing mode, from which standard errors
 * and paired differences between runs are computed without the weights.
 */
import { existsSync } from 'node:fs';
import { writeTextIfChanged } from '../files/atomic.js';
import { type CsvColumn, formatCsv, parseCsv, readTable } from '../files/csv.js';
import { ROUTING_MODES, type RoutingMode } from '../model/config.js';
import type { Cluster } from '../statistics.js';
import { runFiles } from './run-folder.js';

/** What the losses are summed by: sequences if the ends of documents are unknown. The name of the first column. */
export const LOSS_UNITS = ['documents', 'sequences'] as const;
export type LossUnit = (typeof LOSS_UNITS)[number];

/** Sums of losses, one per document or sequence, in the order of the held-out data. */
export interface LossClusters {
  unit: LossUnit;
  /** Sums in nats, sizes in tokens. */
  clusters: readonly Cluster[];
}

/** The table: each row is a document or sequence, or several adjacent ones. */
export interface HeldoutLosses {
  unit: LossUnit;
  /** Documents or sequences of each row. */
  counts: number[];
  /** Tokens of each row. */
  tokens: number[];
  /** Sums of the losses in nats, by routing mode; a mode that was not evaluated is absent. */
  sums: Partial<Record<RoutingMode, number[]>>;
}

/** Rows of a file at most; `mod thin` leaves fewer. */
const MAX_ROWS = 4096;

/** Digits after the point of a sum: rounding moves the mean loss of a document of 100 tokens by at most 0.00005 nats. */
const DIGITS = 2;

type Table = Record<LossUnit | 'tokens' | RoutingMode, CsvColumn>;
const OPTIONAL: CsvColumn = { type: 'number', optional: true };
const TABLE = Object.fromEntries(
  [...LOSS_UNITS, 'tokens', ...ROUTING_MODES].map((name) => [name, OPTIONAL]),
) as Table;

/** The losses of one evaluation in several modes, on the same windows. */
export function heldoutLosses(modes: readonly { mode: RoutingMode; losses: LossClusters }[]): HeldoutLosses {
  const [first] = modes;
  if (first === undefined) throw new Error('no mode was evaluated');
  const { unit, clusters } = first.losses;
  return {
    unit,
    counts: clusters.map(() => 1),
    tokens: clusters.map(({ size }) => size),
    sums: Object.fromEntries(modes.map(({ mode, losses }) => [mode, losses.clusters.map(({ sum }) => sum)])),
  };
}

/** Writes the file of a run, in at most 4096 rows. */
export function writeHeldoutLosses(folder: string, losses: HeldoutLosses): void {
  const { unit, counts, tokens, sums } = withRows(losses, MAX_ROWS);
  const modes = ROUTING_MODES.filter((mode) => sums[mode] !== undefined);
  const names = [unit, 'tokens', ...modes] as const;
  const rows = counts.map((count, i) => ({
    [unit]: count,
    tokens: tokens[i] as number,
    ...Object.fromEntries(modes.map((mode) => [mode, rounded(sums[mode]?.[i] as number)])),
  }));
  const table = Object.fromEntries(names.map((name) => [name, TABLE[name]])) as Table;
  writeTextIfChanged(runFiles(folder).heldoutLosses, formatCsv(table, rows));
}

/** Null for a run without the file: not evaluated, or by an older version. @throws InputError for a damaged file */
export function readHeldoutLosses(folder: string): HeldoutLosses | null {
  const path = runFiles(folder).heldoutLosses;
  if (!existsSync(path)) return null;
  const rows = parseCsv<Record<keyof Table, number | null>>(path, readTable(path), TABLE);
  const column = (name: keyof Table) => rows.flatMap((row) => row[name] ?? []);
  const unit = rows[0]?.documents == null ? 'sequences' : 'documents';
  const modes = ROUTING_MODES.filter((mode) => rows[0]?.[mode] != null);
  return {
    unit,
    counts: column(unit),
    tokens: column('tokens'),
    sums: Object.fromEntries(modes.map((mode) => [mode, column(mode)])),
  };
}

/**
 * Sums adjacent pairs of rows until there are at most `rows`. So the rows of a table, and those of the same table with fewer
 * rows, have boundaries in common.
 */
export function withRows(losses: HeldoutLosses, rows: number): HeldoutLosses {
  if (losses.counts.length <= rows) return losses;
  const paired = (values: readonly number[]) =>
    Array.from(
      { length: Math.ceil(values.length / 2) },
      (_, i) => (values[2 * i] as number) + (values[2 * i + 1] ?? 0),
    );
  const { unit, counts, tokens, sums } = losses;
  const pairs = {
    unit,
    counts: paired(counts),
    tokens: paired(tokens),
    sums: Object.fromEntries(Object.entries(sums).map(([mode, values]) => [mode, paired(values)])),
  };
  return withRows(pairs, rows);
}

/** Both tables with the rows of the one that has fewer; null if they are not of the same held-out tokens. */
export function aligned(a: HeldoutLosses, b: HeldoutLosses): [HeldoutLosses, HeldoutLosses] | null {
  const rows = Math.min(a.counts.length, b.counts.length);
  const [left, right] = [withRows(a, rows), withRows(b, rows)];
  const same = (x: readonly number[], y: readonly number[]) =>
    x.length === y.length && x.every((value, i) => value === y[i]);
  const isEqual =
    left.unit === right.unit && same(left.counts, right.counts) && same(left.tokens, right.tokens);
  return isEqual ? [left, right] : null;
}

/** The clusters of the loss in one mode, for `clusteredMean`; null if the mode was not evaluated. */
export function lossesOf({ tokens, sums }: HeldoutLosses, mode: RoutingMode): Cluster[] | null {
  return sums[mode]?.map((sum, i) => ({ sum, size: tokens[i] as number })) ?? null;
}

/**
 * The clusters of the paired difference of losses, `a` in `modeA` minus `b` in `modeB`, for `clusteredMean`; null if the two
 * are not of the same held-out tokens, or a mode was not evaluated.
 */
export function differencesOf(
  a: HeldoutLosses,
  modeA: RoutingMode,
  b: HeldoutLosses,
  modeB: RoutingMode,
): Cluster[] | null {
  const both = aligned(a, b);
  if (both === null) return null;
  const [minuend, subtrahend] = [lossesOf(both[0], modeA), lossesOf(both[1], modeB)];
  if (minuend === null || subtrahend === null) return null;
  return minuend.map(({ sum, size }, i) => ({ sum: sum - (subtrahend[i] as Cluster).sum, size }));
}

const rounded = (value: number) => Number(value.toFixed(DIGITS));
