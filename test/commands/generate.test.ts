/** `mod generate` and `mod analyze` on a run trained by a sweep. */
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'csv-parse/sync';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { latestCheckpoint } from '../../src/checkpoint/folder.js';
import { readAnalysis } from '../../src/results/analysis.js';
import { findSweep, readPlan } from '../../src/results/sweep-folder.js';
import { currentRows } from '../../src/results/tables.js';
import { mod } from '../support/mod.js';
import { makeTinySweep, TINY_RUNS, type TinySweep } from '../support/tiny-sweep.js';

let sweep: TinySweep;
let folder: string;
beforeAll(async () => {
  sweep = makeTinySweep();
  expect((await mod('sweep', sweep.config, '--results', sweep.results)).code).toBe(0);
  folder = join(sweep.results, 'tiny', TINY_RUNS[1] as string);
});
afterAll(() => rmSync(sweep.folder, { recursive: true }));

describe('mod generate', () => {
  const generate = (...args: string[]) => mod('generate', folder, '--backend', 'wasm', ...args);

  it('streams text for a prompt, reproducible by seed, and prints statistics', async () => {
    const first = await generate('--prompt', 'the ', '--tokens', '20');
    expect(first.code).toBe(0);
    expect(first.stdout.startsWith('the ')).toBe(true);
    expect(first.stderr).toMatch(
      /^[\d.]+ tok\/s; predictor routing: [\d.]+ of the routed blocks per token; KV cache .* dense model's$/m,
    );
    expect((await generate('--prompt', 'the ', '--tokens', '20')).stdout).toBe(first.stdout);
    expect((await generate('--prompt', 'the ', '--tokens', '20', '--seed', '1')).stdout).not.toBe(
      first.stdout,
    );
  });

  it('with --best takes the run of the sweep with the lowest held-out loss', async () => {
    const { sweepFolder } = findSweep('tiny', sweep.results);
    const rows = currentRows(sweepFolder, readPlan(sweepFolder).runs);
    const best = rows.reduce((a, b) => ((b.loss as number) < (a.loss as number) ? b : a)).run_id;
    const args = ['--results', sweep.results, '--prompt', 'the ', '--tokens', '5', '--backend', 'wasm'];
    const chosen = await mod('generate', 'tiny', '--best', ...args);
    expect(chosen.stderr).toContain(`${best}, the run with the lowest held-out loss`);
    expect(chosen.stdout).toBe((await mod('generate', `tiny/${best}`, ...args)).stdout);
    const run = await mod('generate', `tiny/${best}`, '--best', ...args);
    expect(run).toMatchObject({ code: 2, stderr: expect.stringContaining('--best is for a sweep') });
  });

  it('with --json prints tokens, participation and timing of several prompts', async () => {
    const args = ['--prompt', 'the ', 'of 12', '--tokens', '8', '--temperature', '0', '--json'];
    const printed = JSON.parse((await generate(...args)).stdout);
    expect(printed).toHaveLength(2);
    for (const [i, prompt] of ['the ', 'of 12'].entries()) {
      const { text, tokens, participation, prefill_ms, decode_ms, tokens_per_s } = printed[i];
      expect(printed[i].prompt).toBe(prompt);
      expect(tokens).toHaveLength(8);
      expect(Buffer.from(tokens).toString()).toBe(text);
      expect(participation).toHaveLength(prompt.length + 7);
      for (const share of participation) expect([0, 1]).toContain(share); // one routed block
      expect(tokens_per_s).toBeCloseTo(16_000 / (prefill_ms + decode_ms), 6);
    }
    const { cache_bytes, cache_bytes_dense } = printed[0];
    expect(cache_bytes).toBeLessThanOrEqual(cache_bytes_dense);
  });

  it('accepts a run as SWEEP/RUN, like mod eval --checkpoint', async () => {
    const [run, results] = [`tiny/${TINY_RUNS[1]}`, ['--results', sweep.results, '--backend', 'wasm']];
    const generated = await mod('generate', run, '--prompt', 'the ', '--tokens', '2', ...results);
    expect(generated.code).toBe(0);
    const tokens = ['--tokens', join(sweep.folder, 'heldout.txt'), '--token-bytes', '1'];
    for (const checkpoint of [run, folder]) {
      expect((await mod('eval', '--checkpoint', checkpoint, ...tokens, ...results)).code).toBe(0);
    }
    const { code, stderr } = await mod('eval', '--checkpoint', 'nowhere', ...tokens, ...results);
    expect(code).toBe(2);
    expect(stderr).toContain('nowhere: neither a checkpoint nor a run with a checkpoint, here or in');
  });

  it.each([
    [
      'a folder that is not a checkpoint',
      ['nowhere', '--prompt', 'a'],
      /nowhere: neither a checkpoint nor a run/,
    ],
    [
      'more tokens than the sequence length',
      ['FOLDER', '--prompt', 'a', '--tokens', '32'],
      /exceeds the model's sequence length of 32/,
    ],
    [
      'random routing',
      ['RANDOM', '--prompt', 'a', '--tokens', '2'],
      /: cannot generate: random routing has no causal mode$/m,
    ],
    [
      'a tokenizer with a larger vocabulary than the model',
      ['FOLDER', '--prompt', 'a', '--tokenizer', 'gpt2'],
      /gpt2: the tokenizer has 50257 tokens; the vocabulary of the model has only 256/,
    ],
    ['a missing tokenizer', ['FOLDER', '--prompt', 'a', '--tokenizer', 'none.json'], /none\.json/],
  ])('rejects %s', async (_, args, message) => {
    const random = join(sweep.results, 'tiny', TINY_RUNS[2] as string);
    const filled = args.map((arg) => (arg === 'FOLDER' ? folder : arg === 'RANDOM' ? random : arg));
    const { code, stderr } = await mod('generate', ...filled, '--backend', 'wasm');
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });
});

describe('damaged weights', () => {
  const weights = () => join(latestCheckpoint(folder) as string, 'weights.safetensors');
  let whole: Buffer;
  beforeAll(() => {
    whole = readFileSync(weights());
    const flipped = Buffer.from(whole);
    flipped[flipped.length - 7] = (flipped[flipped.length - 7] as number) ^ 1; // still a finite number
    writeFileSync(weights(), flipped);
  });
  afterAll(() => writeFileSync(weights(), whole));

  it.each([
    ['generate', ['RUN', '--prompt', 'the ', '--tokens', '2']],
    ['analyze', ['RUN', '--sequences', '2']],
    ['eval', ['RUN']],
    ['eval', ['--checkpoint', 'CHECKPOINT', '--tokens', 'HELDOUT', '--token-bytes', '1']],
  ])('are rejected by mod %s %j, which names the file', async (command, args) => {
    const places: Record<string, string> = {
      RUN: folder,
      CHECKPOINT: latestCheckpoint(folder) as string,
      HELDOUT: join(sweep.folder, 'heldout.txt'),
    };
    const filled = args.map((arg) => places[arg] ?? arg);
    const { code, stdout, stderr } = await mod(command, ...filled, '--backend', 'wasm');
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(`${weights()}: corrupt: its checksum differs from the manifest's`);
  });

  it('are read without a manifest; an undamaged checkpoint also under another name and without its optimizer', async () => {
    const copy = join(sweep.folder, 'copy');
    cpSync(latestCheckpoint(folder) as string, copy, { recursive: true });
    rmSync(join(copy, 'state.json'));
    const args = ['generate', copy, '--prompt', 'the ', '--tokens', '2', '--backend', 'wasm'];
    writeFileSync(join(copy, 'weights.safetensors'), whole);
    expect((await mod(...args)).code).toBe(0);
    rmSync(join(copy, 'manifest.json'));
    cpSync(weights(), join(copy, 'weights.safetensors'));
    expect((await mod(...args)).code).toBe(0);
  });
});

describe('mod analyze', () => {
  const analyze = (...args: string[]) =>
    mod('analyze', ...args, '--results', sweep.results, '--backend', 'wasm');

  it('writes the selected tokens of each block, router weights, shares and correlations', async () => {
    const { code, stdout } = await analyze(`tiny/${TINY_RUNS[1]}`, '--sequences', '6', '--heatmaps', '2');
    expect(code).toBe(0);
    expect(stdout).toContain('routed blocks 1');
    const analysis = readAnalysis(folder);
    if (analysis === null) throw new Error('no analysis');
    const { heatmaps, router_weights, share_by_blocks_engaged, correlations, blocks } = analysis;
    expect(blocks).toEqual([1]);
    expect(heatmaps).toHaveLength(2);
    for (const { tokens, engaged } of heatmaps) {
      expect(tokens).toHaveLength(32);
      expect(engaged).toHaveLength(1);
      expect(engaged[0]?.match(/1/g)).toHaveLength(8); // a quarter of 32 tokens
    }
    // The held-out text is upper case.
    expect(heatmaps[0]?.tokens?.join('')).toMatch(/^[A-Z\d ]+$/);
    expect(share_by_blocks_engaged).toEqual([0.75, 0.25]);
    const sum = (values: number[] | undefined) => values?.reduce((a, b) => a + b, 0);
    expect(sum(router_weights.counts[0])).toBe(6 * 32);
    expect(sum(router_weights.engaged_counts[0])).toBe(6 * 8);
    expect(router_weights.edges).toHaveLength((router_weights.counts[0]?.length ?? 0) + 1);
    // Of 32 positions in 16 parts, two a part; a quarter of the tokens is selected.
    expect(analysis.participation_by_position).toHaveLength(1);
    expect(analysis.participation_by_position?.[0]).toHaveLength(16);
    expect(sum(analysis.participation_by_position?.[0])).toBeCloseTo(16 * 0.25, 9);
    expect(stdout).toContain('Selected tokens (%) in 16 equal parts of the sequence:\nblock ');
    expect(correlations).toHaveLength(4);
    for (const { r, interval, n } of correlations) {
      expect(n).toBe(6 * 32);
      if (r === null || interval === null) throw new Error('no interval');
      expect(Math.abs(r)).toBeLessThanOrEqual(1);
      expect(interval[0]).toBeLessThanOrEqual(interval[1]);
    }
  });

  it('writes the table of tokens behind the correlations', () => {
    const rows = parse(readFileSync(join(folder, 'analysis', 'tokens.csv')), { columns: true }) as Record<
      string,
      string
    >[];
    expect(rows).toHaveLength(6 * 32);
    expect(rows.reduce((sum, row) => sum + Number(row.blocks_engaged), 0)).toBe(6 * 8);
    for (const { entropy } of rows) {
      expect(Number(entropy)).toBeGreaterThan(0);
      expect(Number(entropy)).toBeLessThan(Math.log(256) + 1e-5);
    }
    expect(existsSync(join(folder, 'analysis', 'router-weights.csv'))).toBe(true);
  });

  it.each([
    ['a sweep', 'tiny', /name one of its runs/],
    ['a dense model', `tiny/${TINY_RUNS[0]}`, /a dense model has no routed blocks/],
  ])('rejects %s', async (_, target, message) => {
    const { code, stderr } = await analyze(target);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });
});
