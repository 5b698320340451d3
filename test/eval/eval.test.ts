/** `mod eval`: the reference's losses and decisions on checkpoints, the rows of a sweep, and errors. */
import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readCsv } from '../../src/files/csv.js';
import { readSafetensors, writeSafetensors } from '../../src/files/safetensors.js';
import { EVAL_TABLE } from '../../src/results/columns.js';
import { mod } from '../support/mod.js';
import { makeTinySweep, TINY_RUNS, TINY_SWEEP, type TinySweep } from '../support/tiny-sweep.js';

const GOLDEN = 'test/golden';
const folder = mkdtempSync(join(tmpdir(), 'mod-eval-'));
afterAll(() => rmSync(folder, { recursive: true }));

const checkpoint = (path: string, ...flags: string[]) =>
  mod(
    'eval',
    '--checkpoint',
    path,
    '--tokens',
    `${GOLDEN}/baseline/tokens.bin`,
    '--backend',
    'wasm',
    ...flags,
  );

interface Expected {
  windows: number;
  eval: Record<string, { loss: number; participation: number[] } | number[]>;
  flops_per_pass_topk: { blocks_and_routers: number; logits: number };
}

describe.each(['baseline', 'mod-raw-f2', 'mod-raw-f2-head64', 'mod-sigmoid-f1-aux-untied'])(
  'mod eval of the checkpoint %s',
  (name) => {
    const path = join(GOLDEN, name);
    const tokens = join(path, 'tokens.bin');
    const expected = JSON.parse(readFileSync(join(path, 'expected_eval.json'), 'utf8')) as Expected;

    it('computes the reference’s loss and participation in every mode', async () => {
      for (const [mode, reference] of Object.entries(expected.eval)) {
        if (Array.isArray(reference)) continue;
        const args = ['eval', '--checkpoint', path, '--tokens', tokens, '--backend', 'wasm', '--json'];
        const { stdout, code } = await mod(...args, '--routing', mode);
        expect(code).toBe(0);
        const row = JSON.parse(stdout);
        expect(row).toMatchObject({ routing: mode, sequences: expected.windows, backend: 'wasm' });
        // Float32 against a reference in float64.
        expect(Math.abs(row.loss / reference.loss - 1)).toBeLessThan(1e-5);
        expect(row.participation).toEqual(reference.participation);
        if (mode !== 'topk') continue;
        const { blocks_and_routers, logits } = expected.flops_per_pass_topk;
        expect(row.flops_per_pass).toBe(blocks_and_routers + logits);
        const accuracies = expected.eval.predictor_accuracy as number[] | undefined;
        const mean = accuracies && accuracies.reduce((a, b) => a + b, 0) / accuracies.length;
        expect(row.predictor_accuracy).toEqual(mean === undefined ? null : expect.closeTo(mean, 9));
      }
    });
  },
);

describe('mod eval of a sweep', () => {
  let sweep: TinySweep;
  beforeAll(async () => {
    sweep = makeTinySweep(TINY_SWEEP.replace('sequences: 4', 'sequences: 4, autoregressive: false'));
    expect((await mod('sweep', sweep.config, '--results', sweep.results)).code).toBe(0);
  }, 60_000);
  afterAll(() => rmSync(sweep.folder, { recursive: true }));

  const evaluations = () =>
    readCsv<Record<string, unknown>>(join(sweep.results, 'tiny', 'eval.csv'), EVAL_TABLE);
  const evaluate = (...args: string[]) =>
    mod('eval', ...args, '--results', sweep.results, '--backend', 'wasm', '--json');

  it('repeats the sweep’s evaluation, plus the causal modes with --autoregressive', async () => {
    const before = evaluations();
    expect(before.map(({ routing }) => routing)).toEqual(['topk', 'topk', 'topk']);
    const printed = JSON.parse((await evaluate('tiny', '--autoregressive')).stdout);
    expect(printed.map(({ run_id, routing }: Record<string, string>) => [run_id, routing])).toEqual([
      [TINY_RUNS[0], 'topk'],
      [TINY_RUNS[1], 'topk'],
      [TINY_RUNS[1], 'predictor'],
      [TINY_RUNS[1], 'quantile'],
      [TINY_RUNS[2], 'topk'],
    ]);
    const after = evaluations();
    for (const row of before) {
      const again = after.find(({ run_id, routing }) => run_id === row.run_id && routing === 'topk');
      expect(again?.loss).toBe(row.loss);
    }
    const [, topk, predictor] = after as Record<string, number>[];
    expect(predictor?.loss_minus_topk).toBe((predictor?.loss as number) - (topk?.loss as number));
  });

  it('accepts one run, a number of sequences and, without a target, the newest sweep', async () => {
    const run = JSON.parse((await evaluate(`tiny/${TINY_RUNS[0]}`, '--sequences', '2')).stdout);
    expect(run).toMatchObject([{ run_id: TINY_RUNS[0], routing: 'topk', sequences: 2, participation: [] }]);
    expect(JSON.parse((await evaluate()).stdout)).toHaveLength(3);
  });

  it('names the runs without weights, and rejects one of them as a target', async () => {
    const text = readFileSync(sweep.config, 'utf8');
    writeFileSync(sweep.config, `${text}checkpoint: {keep_final: best}\n`.replace('[0.25]', '[0.25, 0.5]'));
    expect((await mod('sweep', sweep.config, '--results', sweep.results)).code).toBe(0);
    const { stderr, stdout } = await evaluate();
    // Kept are the better of two capacities of learned and of random routing, and the baseline.
    expect(JSON.parse(stdout)).toHaveLength(3);
    const gone = [...stderr.matchAll(/^(.*): not evaluated, its weights were removed$/gm)].map(
      ([, id]) => id,
    );
    expect(gone).toHaveLength(2);
    const refused = await evaluate(`tiny/${gone[0]}`);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain(
      'its weights were removed: the sweep file sets checkpoint.keep_final: best',
    );
  });

  it('rejects --tokens, which requires --checkpoint, and keeps its rows', async () => {
    const before = evaluations();
    const { code, stderr } = await evaluate('tiny', '--tokens', `${GOLDEN}/baseline/tokens.bin`);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^mod: --tokens requires --checkpoint: /);
    expect(evaluations()).toEqual(before);
  });

  it('rejects a target that does not exist', async () => {
    const { code, stderr } = await evaluate('nothing');
    expect(code).toBe(2);
    expect(stderr).toContain('nothing: not the folder of a sweep or run');
  });
});

describe('mod eval rejects a checkpoint', () => {
  /** A copy of a golden checkpoint that a test can damage. */
  function copy(name: string): string {
    const target = join(folder, name);
    cpSync(`${GOLDEN}/mod-raw-f2`, target, { recursive: true });
    return target;
  }

  it.each([
    ['n_layers', 2, 'the tensor blocks.2.'],
    ['n_layers', 6, 'the tensor blocks.4.attn_norm.weight is missing'],
    ['vocab_size', 65, 'the tensor tok_embed.weight is F32 [64,32], config.json requires F32 [65,32]'],
    ['n_heads', 5, 'model.n_heads: 5 heads do not divide'],
    ['d_model', -1, 'model.d_model'],
  ])('whose config has %s: %i', async (key, value, message) => {
    const path = copy(`${key}${value}`);
    const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
    config.model[key] = value;
    writeFileSync(join(path, 'config.json'), JSON.stringify(config));
    const { code, stdout, stderr } = await checkpoint(path);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(message);
  });

  it('with a NaN, naming its tensor', async () => {
    const path = copy('nan');
    const file = join(path, 'weights.safetensors');
    const tensors = [...readSafetensors(file).values()];
    (tensors.find(({ name }) => name === 'blocks.1.router.weight')?.data as Float32Array)[7] = Number.NaN;
    writeSafetensors(file, tensors);
    expect((await checkpoint(path)).stderr).toContain('blocks.1.router.weight has the value NaN at index 7');
  });

  it('that is truncated or missing, and invalid arguments', async () => {
    const path = copy('short');
    truncateSync(join(path, 'weights.safetensors'), 5000);
    expect((await checkpoint(path)).stderr).toContain('weights.safetensors');
    expect((await checkpoint(join(folder, 'nowhere'))).stderr).toContain(
      'nowhere: neither a checkpoint nor a run with a checkpoint',
    );
    const missing = await mod('eval', '--checkpoint', `${GOLDEN}/baseline`, '--tokens', 'nothing.bin');
    expect(missing).toMatchObject({ code: 2, stderr: 'mod: nothing.bin: no such file\n' });
    const half = await checkpoint(`${GOLDEN}/baseline`, '--token-bytes', '3');
    expect(half.code).toBe(2);
  });
});
