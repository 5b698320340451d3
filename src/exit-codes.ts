/** The exit codes of all commands, defined only here: cron, make and schedulers rely on them (docs/operations.md). */
import { CommanderError } from 'commander';
import { InputError, TryLaterError } from './errors.js';
import { RUN_STATUSES } from './results/run-status.js';
import type { RunEnd } from './run/messages.js';
import { type StopReason, signalExitCode } from './run/stop-request.js';
import type { SweepOutcome } from './sweep/sweep.js';

/** A process that a signal ends has the code of `signalExitCode`. */
export const EXIT = { done: 0, failed: 1, wrongInput: 2, tryLater: 75 } as const;

export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.wrongInput;
  if (error instanceof InputError) return EXIT.wrongInput;
  if (error instanceof TryLaterError) return EXIT.tryLater;
  return EXIT.failed;
}

export function exitCodeOfSweep({ stoppedBy, failed, unfinished }: SweepOutcome): number {
  if (stoppedBy !== null && stoppedBy !== 'max-hours') return exitCodeOfStop(stoppedBy);
  if (failed.length > 0) return EXIT.failed;
  return stoppedBy !== null || unfinished.length > 0 ? EXIT.tryLater : EXIT.done;
}

export function exitCodeOfRun({ status }: RunEnd): number {
  const codes = { done: EXIT.done, unfinished: EXIT.tryLater, failed: EXIT.failed };
  return codes[RUN_STATUSES[status].outcome];
}

export function exitCodeOfStop(reason: StopReason): number {
  return reason === 'max-hours' ? EXIT.tryLater : signalExitCode(reason);
}
