/** The log of a run's steps: writes the rows of steps.csv, and summarises them for the run's row in runs.csv. */
import type { RunRow, StepRow } from '../results/columns.js';
import { formatLoad, stepTimes, tenthOf } from '../results/steps.js';
import { mean } from '../statistics.js';
import { type ExpertShares, meanShares } from '../train/expert-shares.js';
import type { StepReport } from '../train/trainer.js';

/** A longer run has one row per several steps, with their means. */
const MAX_ROWS = 1000;

/** The state of a log, saved in checkpoints. */
export interface StepLogState {
  /** Loss of every step so far. */
  losses: number[];
  /** Duration of every step in ms, rounded to microseconds. */
  times: number[];
  /** The last tenth of the run's steps at most, for the final means; empty without experts. */
  experts: ExpertShares[];
  /** Reports not yet in a row. */
  pending: StepReport[];
}

export class StepLog {
  private readonly interval: number;
  private readonly losses: number[];
  private readonly times: number[];
  private experts: ExpertShares[];
  private pending: StepReport[];

  /**
   * @param append called with each complete row
   * @param from the state to resume from
   */
  constructor(
    private readonly steps: number,
    private readonly append: (row: StepRow) => void,
    from: StepLogState = { losses: [], times: [], experts: [], pending: [] },
  ) {
    this.interval = Math.max(1, Math.ceil(steps / MAX_ROWS));
    this.losses = [...from.losses];
    this.times = [...from.times];
    this.experts = [...from.experts];
    this.pending = [...from.pending];
  }

  get state(): StepLogState {
    const { losses, experts, pending } = this;
    return { losses, times: this.times.map((time) => Math.round(1000 * time) / 1000), experts, pending };
  }

  add(report: StepReport): void {
    this.losses.push(report.loss);
    this.times.push(report.stepMs);
    if (report.experts !== null) this.experts = [...this.experts, report.experts].slice(-tenthOf(this.steps));
    this.pending.push(report);
    const due = report.step % this.interval === 0 || report.step === this.steps;
    if (due || report.heldoutLoss !== null || !Number.isFinite(report.loss)) this.flush(report);
  }

  /** Means over the last tenth of the steps; median and quartiles of the step time without the first tenth. */
  summary(): Pick<RunRow, 'train_loss' | 'step_ms' | 'step_ms_q1' | 'step_ms_q3'> & ExpertColumns {
    const tenth = tenthOf(this.losses.length);
    const times = this.times.slice(this.times.length > 1 ? tenth : 0);
    return {
      train_loss: this.losses.length === 0 ? null : mean(this.losses.slice(-tenth)),
      ...stepTimes(times),
      ...expertColumns(this.experts.slice(-tenth)),
    };
  }

  private flush(last: StepReport): void {
    const accuracies = this.pending.flatMap(({ predictorAccuracy }) => predictorAccuracy ?? []);
    this.append({
      step: last.step,
      tokens: last.tokens,
      loss: mean(this.pending.map(({ loss }) => loss)),
      heldout_loss: last.heldoutLoss,
      learning_rate: last.learningRate,
      grad_norm: last.gradNorm,
      predictor_accuracy: accuracies.length === 0 ? null : mean(accuracies),
      step_ms: mean(this.pending.map(({ stepMs }) => stepMs)),
      ...expertColumns(this.pending.flatMap(({ experts }) => experts ?? [])),
    });
    this.pending = [];
  }
}

type ExpertColumns = Pick<RunRow, 'expert_load' | 'expert_dropped' | 'expert_no_op'>;

/** Means over steps; null without experts. */
function expertColumns(shares: readonly ExpertShares[]): ExpertColumns {
  if (shares.length === 0) return { expert_load: null, expert_dropped: null, expert_no_op: null };
  const { load, dropped, noOp } = meanShares(shares);
  return {
    expert_load: formatLoad(load),
    expert_dropped: dropped,
    expert_no_op: noOp,
  };
}
