/** A training process has a hundred mean steps for a step, at least two minutes; longer for what is not a step. */
import { expect, it } from 'vitest';
import { Watchdog } from '../../src/sweep/watchdog.js';
import { plannedRun } from '../results/planned-run.js';

const RUN = plannedRun('run', {});
const step = (stepMs: number) =>
  ({ type: 'step', runId: 'run', step: 1, loss: 1, tokensPerSecond: 1, secondsLeft: 1, stepMs }) as const;

/** Seconds without progress after which the watchdog reports, in ticks of one second. */
function secondsUntil(watchdog: Watchdog, most = 20_000): { seconds: number; report: string | null } {
  for (let seconds = 1; seconds <= most; seconds++) {
    const report = watchdog.tick(1000);
    if (report !== null) return { seconds, report };
  }
  return { seconds: Number.POSITIVE_INFINITY, report: null };
}

it.each([
  [10, 121],
  [1200, 121],
  [5000, 501],
])('steps of %i ms are waited for until second %i', (stepMs, expected) => {
  const watchdog = new Watchdog(RUN, 'cuda');
  for (let i = 0; i < 3; i++) watchdog.progress(step(stepMs));
  const { seconds, report } = secondsUntil(watchdog);
  expect(seconds).toBe(expected);
  expect(report).toMatch(/^a step has not ended after .*, the steps before took \d+/);
});

it.each([
  { type: 'started', runId: 'run', steps: 9 },
  { type: 'pausing', runId: 'run' },
  { type: 'evaluating', runId: 'run', mode: 'topk', done: 1, total: 9 },
] as const)('waits for half an hour after $type', (message) => {
  const watchdog = new Watchdog(RUN, 'cuda');
  watchdog.progress(step(10));
  watchdog.progress(message);
  const { seconds, report } = secondsUntil(watchdog);
  expect(seconds).toBeGreaterThanOrEqual(1800);
  expect(seconds).toBeLessThan(1900);
  expect(report).toMatch(/^no progress for/);
});

it('a first step has the time of a slow device', () => {
  const flops = { ...RUN, flops_per_pass: 2e14 };
  const { batch_sequences } = RUN.spec;
  const { seconds } = secondsUntil(new Watchdog(flops, 'cuda'));
  expect(seconds).toBeGreaterThan(1800 + (3 * 2e14 * batch_sequences) / 1e12 - 1);
});

it('progress starts the time again, and a suspended sweep does not count', () => {
  const watchdog = new Watchdog(RUN, 'cuda');
  watchdog.progress(step(10));
  expect(watchdog.tick(119_000)).toBeNull();
  expect(watchdog.tick(3_600_000)).toBeNull(); // Ctrl-Z, an hour later fg
  for (let i = 0; i < 100; i++) watchdog.tick(1000);
  watchdog.progress(step(10));
  expect(secondsUntil(watchdog).seconds).toBe(121);
});
