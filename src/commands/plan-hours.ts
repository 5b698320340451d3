/** Training times of planned runs, from step times of finished runs of the sweep or from the rates of `mod bench`. */
import { BACKEND_NAMES } from '../backends/names.js';
import { type BenchRecord, nearestRecord } from '../bench/record.js';
import type { PlannedRun } from '../plan/run.js';
import type { RunRow } from '../results/columns.js';

/** A rate of whole training steps, and the measurement that it comes from. */
export interface Rate {
  flops_per_second: number;
  /** `run 6e18-mod-c0.125-f2-217M-s0`, or a shape of `mod bench`. */
  from: string;
  d_model: number;
}

/** Times are not estimated from a measurement whose width differs by more than this factor. */
const MAX_WIDTH_RATIO = 10;

/** Whether the width of a measurement says anything about that of a run. */
export function isNear(rate: Rate, width: number): boolean {
  return Math.abs(Math.log(rate.d_model / width)) <= Math.log(MAX_WIDTH_RATIO);
}

/**
 * The nearest rate for a run: of a finished run of the sweep, otherwise of `mod bench` on this machine; null without any for
 * the run's backend and precision. The distance is that of the widths, where a model of the other kind, routed or dense, counts
 * as a factor of two.
 */
export function nearestRate(
  run: PlannedRun,
  finished: readonly RunRow[],
  measured: readonly BenchRecord[],
): Rate | null {
  const { spec, backend } = run;
  const { d_model } = spec.model;
  const routed = spec.model.routing !== null || spec.model.experts !== null;
  const own = nearestFinished(run, routed, finished);
  if (own !== null) return own;
  const record = nearestRecord(measured, { backend, precision: spec.precision, d_model, routed });
  return record && { flops_per_second: record.flops_per_second, from: record.shape, d_model: record.d_model };
}

function nearestFinished(run: PlannedRun, routed: boolean, finished: readonly RunRow[]): Rate | null {
  const { spec, backend } = run;
  const usable = finished.filter(
    (row) =>
      row.status === 'done' &&
      row.step_ms !== null &&
      (backend === 'auto' || row.backend === backend) &&
      (spec.precision === 'auto' || row.precision === spec.precision),
  );
  // `auto` takes the first backend that works: the fastest that has finished runs.
  const name = BACKEND_NAMES.find((candidate) => usable.some((row) => row.backend === candidate));
  const distance = (row: RunRow) =>
    Math.abs(Math.log2(row.d_model / spec.model.d_model)) +
    ((row.capacity !== null || row.params_active != null) === routed ? 0 : 1);
  const [nearest] = usable
    .filter((row) => row.backend === name)
    .sort((a, b) => distance(a) - distance(b) || ((a.finished_at ?? '') < (b.finished_at ?? '') ? 1 : -1));
  if (nearest === undefined) return null;
  const seconds = (nearest.steps * (nearest.step_ms as number)) / 1000;
  return {
    flops_per_second: nearest.train_flops / seconds,
    from: `run ${nearest.run_id}`,
    d_model: nearest.d_model,
  };
}
