/** Requests that a training process stop: a signal, a message from its sweep, or the sweep's end. A second signal exits at once. */
import { constants } from 'node:os';

/** SIGHUP: the terminal or the connection was closed. */
export const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
export type StopSignal = (typeof STOP_SIGNALS)[number];

/**
 * Whether a further signal of this kind ends the process before it has saved. A closed terminal is reported by the kernel and
 * again by the shell, and systemd may send SIGHUP right after SIGTERM: neither is a demand of a user.
 */
export function endsAtOnce(signal: StopSignal): boolean {
  return signal !== 'SIGHUP';
}

/** Why a process stops; `max-hours`: the sweep's time limit. */
export type StopReason = StopSignal | 'max-hours';

/** Message from a sweep to its training processes. */
export interface StopMessage {
  type: 'stop';
  reason: StopReason;
}

/** The exit code of a process ended by a signal: 128 plus its number. */
export function signalExitCode(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

export class StopRequest {
  /** Null: no request. */
  reason: StopReason | null = null;

  /**
   * Listens for signals, messages from the parent, and the end of the channel to it. A second SIGINT or SIGTERM exits at
   * once. A message after a signal is ignored: a terminal or service manager signals parent and child alike.
   */
  listen(): void {
    for (const signal of STOP_SIGNALS) process.on(signal, this.onSignal);
    process.on('message', this.onMessage);
    process.on('disconnect', this.onDisconnect);
  }

  close(): void {
    for (const signal of STOP_SIGNALS) process.off(signal, this.onSignal);
    process.off('message', this.onMessage);
    process.off('disconnect', this.onDisconnect);
  }

  private signalled = false;

  private readonly onSignal = (signal: NodeJS.Signals): void => {
    this.reason ??= signal as StopSignal;
    if (!endsAtOnce(signal as StopSignal)) return;
    if (this.signalled) process.exit(signalExitCode(signal));
    this.signalled = true;
  };

  private readonly onMessage = (message: unknown): void => {
    const { type, reason } = message as StopMessage;
    if (type === 'stop') this.reason ??= reason;
  };

  /** The parent has ended and cannot record the run: save and stop, or exit at once if already stopping. */
  private readonly onDisconnect = (): void => {
    if (this.reason !== null) process.exit(signalExitCode('SIGTERM'));
    this.reason = 'SIGTERM';
  };
}
