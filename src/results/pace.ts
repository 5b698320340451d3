/** How fast runs train, from the finished runs of their sweep. */
import { BACKEND_NAMES, type RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';
import type { PlannedRun } from '../plan/run.js';
import type { RunRow } from './columns.js';

/** A finished run with its measured times. */
export type TimedRow = RunRow & { step_ms: number };

/** The finished runs on a backend; for `auto` on the fastest that has any, as `auto` takes the first that works. */
export function timedRuns(
  rows: readonly RunRow[],
  backend: RequestedBackend,
  precision: RequestedPrecision,
): TimedRow[] {
  const usable = rows.filter(
    (row): row is TimedRow =>
      row.status === 'done' && row.step_ms !== null && (precision === 'auto' || row.precision === precision),
  );
  const name =
    backend === 'auto' ? BACKEND_NAMES.find((one) => usable.some((row) => row.backend === one)) : backend;
  return usable.filter((row) => row.backend === name);
}

/**
 * The timed run that is most like a planned one, the latest of equals; null for none. The distance is that of the widths,
 * where a model of the other kind, routed or dense, counts as a factor of two.
 */
export function nearestRun({ spec }: PlannedRun, timed: readonly TimedRow[]): TimedRow | null {
  const routed = spec.model.routing !== null || spec.model.experts !== null;
  const distance = (row: RunRow) =>
    Math.abs(Math.log2(row.d_model / spec.model.d_model)) +
    ((row.capacity !== null || row.params_active != null) === routed ? 0 : 1);
  const later = (a: RunRow, b: RunRow) => ((a.finished_at ?? '') < (b.finished_at ?? '') ? 1 : -1);
  return [...timed].sort((a, b) => distance(a) - distance(b) || later(a, b))[0] ?? null;
}

/** FLOP/s of whole training steps. */
export function flopsPerSecond({ train_flops, steps, step_ms }: TimedRow): number {
  return (1000 * train_flops) / (steps * step_ms);
}

/** Times are not estimated from a measurement whose width differs by more than this factor. */
const MAX_WIDTH_RATIO = 10;

/** Whether the width of a measurement says anything about that of a run. */
export function isNearWidth(measured: number, width: number): boolean {
  return Math.abs(Math.log(measured / width)) <= Math.log(MAX_WIDTH_RATIO);
}
