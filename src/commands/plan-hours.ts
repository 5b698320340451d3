/** Training times of planned runs, from step times of finished runs of the sweep or from the rates of `mod bench`. */
import { type BenchRecord, nearestRecord } from '../bench/record.js';
import type { PlannedRun } from '../plan/run.js';
import type { RunRow } from '../results/columns.js';
import { flopsPerSecond, nearestRun, timedRuns } from '../results/pace.js';

/** A rate of whole training steps, and the measurement that it comes from. */
export interface Rate {
  flops_per_second: number;
  /** `run 6e18-mod-c0.125-f2-217M-s0`, or a shape of `mod bench`. */
  from: string;
  d_model: number;
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
  const own = nearestRun(run, timedRuns(finished, backend, spec.precision));
  if (own !== null) {
    return { flops_per_second: flopsPerSecond(own), from: `run ${own.run_id}`, d_model: own.d_model };
  }
  const record = nearestRecord(measured, { backend, precision: spec.precision, d_model, routed });
  return record && { flops_per_second: record.flops_per_second, from: record.shape, d_model: record.d_model };
}
