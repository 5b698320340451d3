/** `mod tune` end to end: three rates, then a fourth that is trained alone, and the YAML, which is a valid sweep file's. */
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Tuning } from '../../src/commands/tune.js';
import { parseSweepFile } from '../../src/config/sweep-file.js';
import { mod } from '../support/mod.js';
import { makeTinySweep, runRows, TINY_SWEEP, type TinySweep } from '../support/tiny-sweep.js';

const TEXT = `${TINY_SWEEP.replace('[0.25]', '[]')}training: {base: {d_model: 16, n_layers: 2, head_size: 8, batch_tokens: 64}}\n`;

let sweep: TinySweep;
beforeAll(() => {
  sweep = makeTinySweep(TEXT);
});
afterAll(() => rmSync(sweep.folder, { recursive: true }));

const tune = (...args: string[]) =>
  mod('tune', sweep.config, '--results', sweep.results, '--budget', '1e8', ...args);

it('trains the rates as a sweep, resumes it, and prints the YAML to paste', async () => {
  const first = await tune('--rates', '0.5x', '1x', '2x');
  expect(first).toMatchObject({ code: 0, stderr: '' });
  expect(first.stdout).toMatch(/held-out loss +0\.5x +1x +2x\ndense +[\d.]+ +[\d.]+ +[\d.]+\n/);
  // 20 steps are too few for any of these rates to be too high.
  expect(first.stdout).toContain('dense: the optimum is at the edge, at or above the highest rate, 2x');
  expect(first.stdout).toContain('--rates 0.5x 1x 2x 2.8x 4x');
  const before = runRows(sweep, 'tiny-tune');

  const second = await tune('--rates', '0.5x', '1x', '2x', '2.8x', '--json');
  const tuning = JSON.parse(second.stdout) as Tuning;
  expect(tuning).toMatchObject({
    runs_left: 0,
    kinds: [{ kind: 'dense', rates: [{}, {}, {}, { multiple: 2.8 }] }],
  });
  const after = runRows(sweep, 'tiny-tune');
  expect(after.slice(0, 3)).toEqual(before);
  expect(after.map(({ learning_rate }) => learning_rate)).toEqual([1.75e-3, 3.5e-3, 7e-3, 9.8e-3]);
  const pasted = parseSweepFile(
    'a.yaml',
    `name: a\nflop_budgets: [1e9]\ndata: {text: a, heldout_text: b}\n${tuning.yaml}\n`,
  );
  expect(pasted.products[0]?.training).toMatchObject({
    parametrization: 'complete',
    learning_rate: [{ text: tuning.learning_rate }],
    base: { d_model: { value: 16 }, batch_tokens: { value: 64 } },
  });
});

it.each([
  [['--rates', '1x', '2x'], 'at least 3'],
  [['--rates', '1x', '2x', '1e-3'], '--rates 1e-3: expected a multiple'],
])('%s is an error', async (args, message) => {
  const { code, stderr } = await tune(...args);
  expect(code).toBe(2);
  expect(stderr).toContain(message);
});
