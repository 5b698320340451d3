/** Who asked a training process to stop: a signal, its sweep, or the death of its sweep; asked twice it ends at once. */
import { constants } from 'node:os';

/** Signals end a process with 128 and their number; `max-hours` is the sweep's own time. */
export type StopReason = 'SIGINT' | 'SIGTERM' | 'max-hours';

/** What a sweep sends to its training processes. */
export interface StopMessage {
  type: 'stop';
  reason: StopReason;
}

export const STOP_SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** The exit code of a process that a signal ended. */
export function signalExitCode(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

export class StopRequest {
  /** Null: train on. */
  reason: StopReason | null = null;

  /**
   * Listens to this process' signals, to its parent's message and to the end of the channel to it. A second signal ends
   * the process at once; a message on top of a signal does not count, since a terminal and a service manager send
   * signals to parent and child alike.
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
    if (this.signalled) process.exit(signalExitCode(signal));
    this.signalled = true;
    this.reason ??= signal as 'SIGINT' | 'SIGTERM';
  };

  private readonly onMessage = (message: unknown): void => {
    const { type, reason } = message as StopMessage;
    if (type === 'stop') this.reason ??= reason;
  };

  /** The parent is gone, and with it whoever would take note of the run: save; if that was under way, at once. */
  private readonly onDisconnect = (): void => {
    if (this.reason !== null) process.exit(signalExitCode('SIGTERM'));
    this.reason = 'SIGTERM';
  };
}
