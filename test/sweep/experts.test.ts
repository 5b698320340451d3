/** A sweep of all variants with experts, end to end: rows, steps, evaluations, checkpoints, generated text. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readCsv } from '../../src/files/csv.js';
import { EXPERT_VARIANTS, VARIANTS } from '../../src/model/variants.js';
import { EVAL_TABLE } from '../../src/results/columns.js';
import { readSteps } from '../../src/results/steps.js';
import { mod } from '../support/mod.js';
import { makeTinySweep, masked, runRows, TINY_SWEEP, type TinySweep } from '../support/tiny-sweep.js';

const TEXT = `${TINY_SWEEP.replace('routers: [learned, random]', 'routers: [learned]')}baseline: false
expert_variants: [${EXPERT_VARIANTS.join(', ')}]
experts: {count: 2}
`;

let sweep: TinySweep;
beforeAll(async () => {
  sweep = makeTinySweep(TEXT);
  expect(await mod('sweep', sweep.config, '--results', sweep.results)).toMatchObject({ code: 0, stderr: '' });
});
afterAll(() => rmSync(sweep.folder, { recursive: true }));

const rowOf = (variant: string) => runRows(sweep).find((row) => row.variant === variant) ?? {};
const folderOf = (variant: string) => join(sweep.results, 'tiny', rowOf(variant).run_id as string);

it.each(EXPERT_VARIANTS)('%s trains, and logs its expert load', (variant) => {
  const row = rowOf(variant);
  expect(row).toMatchObject({ status: 'done', router: VARIANTS[variant].experts.router });
  expect(row.loss).toBeGreaterThan(1);
  expect(row.loss).toBeLessThan(Math.log(256));
  expect(row.params_active).toBeLessThan(row.params_total as number);
  for (const line of [row, ...readSteps(join(folderOf(variant), 'steps.csv'))]) {
    const load = String(line.expert_load).split(' ').map(Number);
    expect(load).toHaveLength(2);
    const noOp = (line.expert_no_op as number | null) ?? 0;
    expect(load.reduce((a, b) => a + b, 0) + noOp).toBeCloseTo(1, 3); // printed with four digits
    expect(line.expert_dropped).toBeGreaterThanOrEqual(0);
    expect(line.expert_no_op === null).toBe(!VARIANTS[variant].experts.noOps);
  }
});

it('gives the same rows when trained again', async () => {
  const again = makeTinySweep(TEXT);
  expect((await mod('sweep', again.config, '--results', again.results)).code).toBe(0);
  expect(masked(runRows(again))).toEqual(masked(runRows(sweep)));
  rmSync(again.folder, { recursive: true });
});

it('evaluates staged MoDE also with the predictor, the others only in their causal topk mode', () => {
  const rows = readCsv<Record<string, unknown>>(join(sweep.results, 'tiny', 'eval.csv'), EVAL_TABLE);
  const modes = (variant: string) =>
    rows.filter(({ run_id }) => run_id === rowOf(variant).run_id).map(({ routing }) => routing);
  expect(modes('mode-staged')).toEqual(['topk', 'predictor', 'quantile']);
  const unrouted = EXPERT_VARIANTS.filter((variant) => VARIANTS[variant].experts.router === null);
  for (const variant of unrouted) expect(modes(variant)).toEqual(['topk']);
});

it.each(EXPERT_VARIANTS)('%s continues a prompt from its checkpoint', async (variant) => {
  const args = ['--backend', 'wasm', '--prompt', 'the ', '--tokens', '8', '--temperature', '0', '--json'];
  const { code, stdout } = await mod('generate', folderOf(variant), ...args);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)[0].tokens).toHaveLength(8);
  expect(readdirSync(join(folderOf(variant), 'checkpoints'))).toHaveLength(1);
});

it('cannot analyse a model without routed blocks', async () => {
  const { code, stderr } = await mod('analyze', folderOf('moe'), '--results', sweep.results);
  expect(code).toBe(2);
  expect(stderr).toContain('it has no routed blocks; its expert load is in steps.csv');
});
