/** Progress lines of a running sweep: one when a run ends, and one per interval. */
import { expect, it } from 'vitest';
import { lineDisplay } from '../../src/sweep/display.js';

it('prints the runs in training once per interval, and a line at once when a run ends', () => {
  const lines: string[] = [];
  let time = 0;
  const out = { write: (text: string) => lines.push(text) } as unknown as NodeJS.WriteStream;
  const display = lineDisplay({ total: 3, done: 1, out, now: () => time, interval: 1000, times: true });
  const step = (step: number, loss: number) =>
    display.message({
      type: 'step',
      runId: 'a',
      step,
      loss,
      tokensPerSecond: 1234,
      secondsLeft: 75,
      stepMs: 9,
    });
  display.message({ type: 'started', runId: 'a', steps: 40 });
  step(1, 5);
  time = 1000;
  step(2, 4.5);
  time = 1500;
  step(3, 4);
  time = 2100;
  display.message({ type: 'evaluating', runId: 'a', mode: 'topk', done: 2, total: 8 });
  display.ended({ runId: 'a', status: 'done', note: null });
  display.ended({ runId: 'b', status: 'failed', note: 'no memory' });
  expect(lines.join('')).toMatchInlineSnapshot(`
    "1970-01-01T00:00:01Z 1 of 3 runs done; a 2/40 loss 4.500, 1.23k tok/s, 1m15s left
    1970-01-01T00:00:02Z 1 of 3 runs done; a 3/40 evaluating topk 2/8
    1970-01-01T00:00:02Z 2/3 a: done
    1970-01-01T00:00:02Z 3/3 b: failed, no memory
    "
  `);
});
