/** Held-out data that mislead are said in plan, sweep and report, and once. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { mod } from '../support/mod.js';
import { makeTinySweep, TINY_SWEEP } from '../support/tiny-sweep.js';

const ONE_RUN = TINY_SWEEP.replace('[0.25]', '[]').replace('sequences: 4', 'sequences: 4000');
const sweep = makeTinySweep(ONE_RUN.replace('heldout_text: heldout.txt', "heldout_text: '*.txt'"));
afterAll(() => rmSync(sweep.folder, { recursive: true }));

it('files that are training files, and too few sequences', async () => {
  const same =
    '1 of 2 held-out files is also among the training files, by path or content, so the held-out losses are too low: train.txt. ';
  const few = /the held-out text has \d+ sequences of 32 tokens, evaluation\.sequences asks for 4,000: /;
  const { config, results } = sweep;
  const plan = await mod('plan', config, '--results', results);
  expect(plan.stdout).toContain(`\nWarnings:\n  ${same}`);
  expect(plan.stdout).toMatch(few);
  const trained = await mod('sweep', config, '--results', results);
  expect(trained).toMatchObject({ code: 0, stderr: '' });
  expect(trained.stdout).toContain(`warning: ${same}`);
  expect(trained.stdout.match(new RegExp(few, 'g'))).toHaveLength(1);
  await mod('sweep', config, '--results', results, '--quiet'); // nothing to train: the warnings stay
  await mod('report', 'tiny', '--results', results);
  const report = JSON.parse(readFileSync(join(results, 'tiny/report/report.json'), 'utf8'));
  expect(report.cautions).toContainEqual(expect.stringContaining(same));
  expect(report.cautions).toContainEqual(expect.stringMatching(/^The held-out text has /));
});
