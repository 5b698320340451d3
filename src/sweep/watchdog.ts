/**
 * The time limit of a training process: one that makes no progress for very long is ended, since a GPU that hangs would keep
 * it for ever. The limit is kept by the sweep: a call that hangs in a driver blocks the event loop of its own process.
 */
import { duration } from '../format.js';
import type { PlannedRun } from '../plan/run.js';
import type { RunMessage } from '../run/messages.js';

/** Milliseconds; injected in tests. */
export interface TimeLimits {
  /** A step has at least this long. */
  step: number;
  /** Starting, compiling, tuning, saving and each batch of an evaluation have this long, and the time of one slow step. */
  other: number;
}

export const TIME_LIMITS: TimeLimits = { step: 120_000, other: 1_800_000 };

/** A step may take this many times the mean of the steps so far. */
const STEPS = 100;
/** FLOP/s of a slow step: a tenth of what any of the backends reaches on a slow machine. */
const SLOW_FLOPS_PER_SECOND = { cuda: 1e12, tensorflow: 1e9, wasm: 1e8 } as const;
/** A tick counts at most this often: a sweep that was suspended (Ctrl-Z, a sleeping laptop) has suspended its runs as well. */
const LONGEST_TICK = 5000;

export class Watchdog {
  private waited = 0;
  private steps = 0;
  private stepMs = 0;
  private isStepping = false;
  private readonly slowStep: number;

  constructor(
    { spec, flops_per_pass }: Pick<PlannedRun, 'spec' | 'flops_per_pass'>,
    backend: keyof typeof SLOW_FLOPS_PER_SECOND,
    private readonly limits: TimeLimits = TIME_LIMITS,
  ) {
    this.slowStep = (3000 * flops_per_pass * spec.batch_sequences) / SLOW_FLOPS_PER_SECOND[backend];
  }

  /** Every message is progress; a step is expected to be followed by another. */
  progress(message: RunMessage): void {
    this.waited = 0;
    this.isStepping = message.type === 'step';
    if (message.type !== 'step') return;
    this.steps += 1;
    this.stepMs += message.stepMs;
  }

  /**
   * Counts time without progress.
   *
   * @param ms since the last tick
   * @returns what takes too long; null within the limit
   */
  tick(ms: number): string | null {
    this.waited += Math.min(ms, LONGEST_TICK);
    if (this.waited <= this.limit) return null;
    const limit = duration(this.limit / 1000);
    if (!this.isStepping) return `no progress for ${limit}`;
    const mean = (this.stepMs / this.steps).toPrecision(3);
    return `a step has not ended after ${limit}, the steps before took ${mean} ms`;
  }

  /** Milliseconds. */
  private get limit(): number {
    if (!this.isStepping) return this.limits.other + this.slowStep;
    return Math.max(this.limits.step, (STEPS * this.stepMs) / this.steps);
  }
}
