/** Shows the progress of a sweep: bars on a terminal, otherwise one line per interval, nothing if quiet. */
import { MultiBar, type SingleBar } from 'cli-progress';
import { count, duration, rate } from '../format.js';
import type { RunEnd, RunMessage } from '../run/messages.js';

export interface Display {
  message(message: RunMessage): void;
  ended(end: RunEnd): void;
  /** A line about the sweep as a whole. */
  note(line: string): void;
  close(): void;
}

export interface DisplayOptions {
  /** Runs of the sweep, and how many were done before this call. */
  total: number;
  done: number;
  out: NodeJS.WriteStream;
  /** Milliseconds since 1970; injected in tests. */
  now: () => number;
  /** Whether each line begins with its time; the systemd journal stores its own. */
  times: boolean;
  /** Milliseconds between lines. */
  interval: number;
}

/** Prints nothing; failures are printed at the end, on standard error. */
export const silentDisplay: Display = {
  message: () => undefined,
  ended: () => undefined,
  note: () => undefined,
  close: () => undefined,
};

interface RunState {
  step: number;
  steps: number;
  loss: number | null;
  tokensPerSecond: number | null;
  secondsLeft: number | null;
  evaluating: string | null;
}

/** The states of the runs in training. */
class RunStates {
  private readonly states = new Map<string, RunState>();

  update(message: RunMessage): RunState | null {
    if (message.type === 'started') {
      const { steps } = message;
      const fresh = {
        step: 0,
        steps,
        loss: null,
        tokensPerSecond: null,
        secondsLeft: null,
        evaluating: null,
      };
      this.states.set(message.runId, fresh);
      return fresh;
    }
    const state = this.states.get(message.runId);
    if (state === undefined) return null;
    switch (message.type) {
      case 'step': {
        const { step, loss, tokensPerSecond, secondsLeft } = message;
        Object.assign(state, { step, loss, tokensPerSecond, secondsLeft, evaluating: null });
        return state;
      }
      case 'evaluating':
        state.evaluating = `${message.mode} ${message.done}/${message.total}`;
        return state;
      case 'pausing':
      case 'finished':
        return state;
      default:
        return message satisfies never;
    }
  }

  delete(runId: string): void {
    this.states.delete(runId);
  }

  entries(): [string, RunState][] {
    return [...this.states];
  }
}

function describe({ loss, tokensPerSecond, secondsLeft, evaluating }: RunState): string {
  if (evaluating !== null) return `evaluating ${evaluating}`;
  return [
    loss === null ? 'starting' : `loss ${loss.toFixed(3)}`,
    ...(tokensPerSecond === null ? [] : [`${rate(tokensPerSecond)} tok/s`]),
    ...(secondsLeft === null ? [] : [`${duration(secondsLeft)} left`]),
  ].join(', ');
}

/** One bar for the sweep, one for each run in training. */
export function barDisplay({ total, done, out }: DisplayOptions): Display {
  const bars = new MultiBar({
    format: '{name} {bar} {value}/{total}  {text}',
    hideCursor: true,
    clearOnComplete: false,
    stream: out,
    barsize: 24,
  });
  const width = 36;
  const name = (text: string) => (text.length > width ? `${text.slice(0, width - 1)}…` : text.padEnd(width));
  const started = Date.now();
  const sweep = bars.create(total, done, { name: name('sweep'), text: '' });
  const runs = new Map<string, SingleBar>();
  const states = new RunStates();
  let ended = 0;
  return {
    message: (message) => {
      const state = states.update(message);
      if (state === null) return;
      const bar =
        runs.get(message.runId) ?? bars.create(state.steps, 0, { name: name(message.runId), text: '' });
      runs.set(message.runId, bar);
      bar.update(state.step, { text: describe(state) });
    },
    ended: ({ runId }) => {
      const bar = runs.get(runId);
      if (bar !== undefined) bars.remove(bar);
      runs.delete(runId);
      states.delete(runId);
      ended += 1;
      const left = (((Date.now() - started) / ended) * (total - done - ended)) / 1000;
      sweep.update(done + ended, { text: `runs, ${duration(left)} left` });
    },
    note: (line) => bars.log(`${line}\n`),
    close: () => bars.stop(),
  };
}

/** One line when a run ends, and one line per interval that lists the runs in training. */
export function lineDisplay({ total, done, out, now, interval, times }: DisplayOptions): Display {
  const states = new RunStates();
  const printLine = (text: string) =>
    out.write(`${times ? `${new Date(now()).toISOString().slice(0, 19)}Z ` : ''}${text}\n`);
  let finished = done;
  let last = now();
  return {
    message: (message) => {
      states.update(message);
      if (now() - last < interval) return;
      last = now();
      const runs = states
        .entries()
        .map(([id, state]) => `${id} ${state.step}/${state.steps} ${describe(state)}`);
      printLine(`${count(finished)} of ${count(total)} runs done; ${runs.join('; ')}`);
    },
    ended: ({ runId, status, note }) => {
      states.delete(runId);
      finished += 1;
      printLine(`${finished}/${total} ${runId}: ${status}${note === null ? '' : `, ${note}`}`);
    },
    note: printLine,
    close: () => undefined,
  };
}
