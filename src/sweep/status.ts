/** The progress of each run of a sweep, read from its files only, so it works on any machine that shares them. */
import type { Variant } from '../model/variants.js';
import type { PlannedRun } from '../plan/run.js';
import { currentRow, runFiles } from '../results/run-folder.js';
import type { RunStatus } from '../results/run-status.js';
import { readSteps } from '../results/steps.js';
import { runFolder } from '../results/sweep-folder.js';

export interface RunProgress {
  run_id: string;
  status: RunStatus;
  variant: Variant;
  flop_budget: number;
  capacity: number | null;
  routing_frequency: number | null;
  /** Steps taken; 0 before the first. */
  step: number;
  steps: number;
  /** step / steps, in [0, 1]. */
  share: number;
  /** Held-out loss: of the finished run, otherwise the last one in steps.csv. */
  loss: number | null;
  /** Training loss: of the finished run, otherwise that of the last row of steps.csv. */
  train_loss: number | null;
  tokens_per_s: number | null;
  /** Time left of a run in training, at the pace of its last row of steps.csv; null if unknown. */
  seconds_left: number | null;
  note: string | null;
}

export interface SweepProgress {
  runs: RunProgress[];
  /** Share of the training FLOPs of all feasible runs that is done. */
  share: number;
  /** Time until all feasible runs are done, at the pace of the runs in training; null if no run is training. */
  seconds_left: number | null;
}

/** Reads the state of every run. */
export function sweepProgress(folder: string, runs: readonly PlannedRun[]): SweepProgress {
  const progress = runs.map((run) => runProgress(runFolder(folder, run.run_id), run));
  let [all, spent, pace] = [0, 0, 0];
  runs.forEach((run, i) => {
    const { status, share, steps, step, seconds_left } = progress[i] as RunProgress;
    if (status === 'skipped') return;
    all += run.train_flops;
    spent += run.train_flops * share;
    if (seconds_left !== null && step < steps) pace += (run.train_flops * (1 - share)) / seconds_left;
  });
  return {
    runs: progress,
    share: all === 0 ? 0 : spent / all,
    seconds_left: pace === 0 ? null : (all - spent) / pace,
  };
}

/** Whether more progress is expected: a run is training, is queued, or may be started by a running sweep. */
export function isInProgress(
  runs: readonly { status: RunStatus | 'queued' }[],
  sweepIsRunning: boolean,
): boolean {
  return runs.some(({ status }) => {
    if (status === 'done' || status === 'skipped') return false;
    return sweepIsRunning || status === 'running' || status === 'queued';
  });
}

function runProgress(folder: string, run: PlannedRun): RunProgress {
  const row = currentRow(folder, run);
  const { steps } = run.spec;
  const { run_id, status, note, variant, flop_budget, capacity, routing_frequency } = row;
  const known = { run_id, status, variant, flop_budget, capacity, routing_frequency, steps, note };
  if (status === 'done') {
    const { loss, train_loss, tokens_per_s } = row;
    return { ...known, step: steps, share: 1, loss, train_loss, tokens_per_s, seconds_left: null };
  }
  const taken = readSteps(runFiles(folder).steps);
  const last = taken.at(-1);
  if (last === undefined) {
    const unknown = { loss: null, train_loss: null, tokens_per_s: null, seconds_left: null };
    return { ...known, step: 0, share: 0, ...unknown };
  }
  const { step, loss: train_loss, step_ms } = last;
  const tokens = run.spec.batch_sequences * run.spec.model.sequence_length;
  return {
    ...known,
    step,
    share: step / steps,
    loss: taken.findLast(({ heldout_loss }) => heldout_loss !== null)?.heldout_loss ?? null,
    train_loss,
    tokens_per_s: step_ms > 0 ? (tokens * 1000) / step_ms : null,
    seconds_left: status === 'running' ? ((steps - step) * step_ms) / 1000 : null,
  };
}
