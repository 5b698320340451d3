/** What a run keeps of its steps: lines of steps.csv as it goes, and the figures of its row at the end. */
import type { StepRow } from '../results/columns.js';
import { mean, median } from '../statistics.js';
import type { StepReport } from '../train/trainer.js';

/** A longer run gets a line for every few steps, with the means over them. */
const MAX_LINES = 1000;
/** Share of the steps that the train loss is the mean of, from the end; and that the step time leaves out, from the start. */
const TENTH = 0.1;

/** All that a log knows after some steps: plain numbers, to be saved and gone on from. */
export interface StepLogState {
  /** Of every step so far. */
  losses: number[];
  /** Milliseconds, to the microsecond. */
  times: number[];
  /** Reports that no line holds yet. */
  pending: StepReport[];
}

export class StepLog {
  private readonly interval: number;
  private readonly losses: number[];
  private readonly times: number[];
  private pending: StepReport[];

  /**
   * @param append takes each finished line
   * @param from the state to go on from
   */
  constructor(
    private readonly steps: number,
    private readonly append: (row: StepRow) => void,
    from: StepLogState = { losses: [], times: [], pending: [] },
  ) {
    this.interval = Math.max(1, Math.ceil(steps / MAX_LINES));
    this.losses = [...from.losses];
    this.times = [...from.times];
    this.pending = [...from.pending];
  }

  get state(): StepLogState {
    const { losses, pending } = this;
    return { losses, times: this.times.map((time) => Math.round(1000 * time) / 1000), pending };
  }

  add(report: StepReport): void {
    this.losses.push(report.loss);
    this.times.push(report.stepMs);
    this.pending.push(report);
    const due = report.step % this.interval === 0 || report.step === this.steps;
    if (due || report.heldoutLoss !== null || !Number.isFinite(report.loss)) this.flush(report);
  }

  /** Mean LM loss of the last tenth of the steps, and the median time of a step, the first tenth left out. */
  summary(): { train_loss: number | null; step_ms: number | null } {
    const tenth = Math.max(1, Math.floor(this.losses.length * TENTH));
    const times = this.times.slice(this.times.length > 1 ? tenth : 0);
    return {
      train_loss: this.losses.length === 0 ? null : mean(this.losses.slice(-tenth)),
      step_ms: times.length === 0 ? null : median(times),
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
    });
    this.pending = [];
  }
}
