/** `--whole-runs`: starts no run that cannot end within `--max-hours`, by the times of the sweep's finished runs. */
import type { BackendChoice } from '../backends/choose.js';
import { counted, duration, firstOf } from '../format.js';
import type { PlannedRun } from '../plan/run.js';
import type { RunRow } from '../results/columns.js';
import { flopsPerSecond, isNearWidth, nearestRun, type TimedRow, timedRuns } from '../results/pace.js';
import type { RunEnd } from '../run/messages.js';
import { median } from '../statistics.js';

/** Seconds of a training process before its first step and after its result, which no column has. */
const PROCESS_SECONDS = 10;

export interface Estimate {
  /** Of the whole process: start, remaining steps, evaluation. */
  seconds: number;
  /** The run whose times these are. */
  from: string;
  /** Whether that run has another shape, so that times are scaled by FLOPs. */
  isScaled: boolean;
}

/**
 * Time to finish a run: its remaining steps at the median step time of finished runs of its shape on this backend, plus what
 * they needed besides steps. Without one of its shape, at the FLOP/s of the most similar run. Null if the sweep has no
 * finished run on this backend, or only of widths that say nothing about this one.
 *
 * @param stepsTaken steps of the checkpoint that it resumes from
 */
export function estimateRun(
  run: PlannedRun,
  rows: readonly RunRow[],
  { name, precision, device }: Pick<BackendChoice, 'name' | 'precision' | 'device'>,
  stepsTaken: number,
): Estimate | null {
  const all = timedRuns(rows, name, precision);
  const here = all.filter((row) => row.device === device);
  const timed = here.length > 0 ? here : all;
  const steps = run.spec.steps - stepsTaken;
  const same = timed.filter((row) => isSameShape(row, run));
  const [first] = same;
  if (first !== undefined) {
    const stepMs = median(same.map(({ step_ms }) => step_ms));
    return {
      seconds: PROCESS_SECONDS + (steps * stepMs) / 1000 + median(same.map(secondsBesidesSteps)),
      from: first.run_id,
      isScaled: false,
    };
  }
  const nearest = nearestRun(run, timed);
  if (nearest === null || !isNearWidth(nearest.d_model, run.spec.model.d_model)) return null;
  const flops = 3 * run.flops_per_pass * run.spec.batch_sequences;
  // The evaluation grows with the FLOPs of a pass; the first steps and checkpoints do not shrink with them.
  const larger = Math.max(1, run.flops_per_pass / nearest.flops_per_pass);
  return {
    seconds:
      PROCESS_SECONDS + (steps * flops) / flopsPerSecond(nearest) + larger * secondsBesidesSteps(nearest),
    from: nearest.run_id,
    isScaled: true,
  };
}

/** The end of a run that is not started, since it cannot end in the time that is left; null if it can, or its time is unknown. */
export function leftOutFor(run: PlannedRun, estimate: Estimate | null, secondsLeft: number): RunEnd | null {
  if (estimate === null || estimate.seconds <= secondsLeft) return null;
  const { seconds, from, isScaled } = estimate;
  const source = `${isScaled ? 'the FLOP/s' : 'the step times'} of ${from}`;
  const note = `needs about ${duration(seconds)} by ${source}, ${duration(secondsLeft)} of --max-hours are left`;
  return { runId: run.run_id, status: 'pending', note };
}

/** The message about runs that were left out, and what to do. */
export function leftOutText(ends: readonly RunEnd[]): string {
  const each = ends.map(({ runId, note }) => `${runId}: ${note}`);
  return `${counted(ends.length, 'run')} not started:\n${firstOf(each).join('\n')}\nstart the sweep again with a larger --max-hours, or without --whole-runs: runs are then saved and resumed`;
}

/** Of a finished run: first steps, checkpoints, evaluations. */
function secondsBesidesSteps({ wall_s, steps, step_ms }: TimedRow): number {
  return wall_s === null ? 0 : Math.max(0, wall_s - (steps * step_ms) / 1000);
}

function isSameShape(row: RunRow, { spec, flops_per_pass }: PlannedRun): boolean {
  const { model } = spec;
  return (
    row.variant === spec.variant &&
    row.flops_per_pass === flops_per_pass &&
    row.d_model === model.d_model &&
    row.n_layers === model.n_layers &&
    row.sequence_length === model.sequence_length &&
    row.batch_sequences === spec.batch_sequences
  );
}
