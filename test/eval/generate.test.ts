/** Sampling, and generation with a model: seeded, independent of the batch, greedy at temperature 0. */
import { beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/checkpoint/model.js';
import { type GenerateOptions, generate, sample } from '../../src/eval/generate.js';
import { randomStream } from '../../src/random.js';
import { useBackend } from '../support/backends.js';

const LOGITS = Float32Array.from([0, 2, 1, -1]);

describe('sample', () => {
  const draws = (temperature: number, topP: number, n = 20_000) => {
    const stream = randomStream(1, 'sample');
    const counts = [0, 0, 0, 0];
    for (let i = 0; i < n; i++) {
      const token = sample(LOGITS, { temperature, topP }, () => stream.uniform());
      counts[token] = (counts[token] as number) + 1 / n;
    }
    return counts;
  };

  it('takes the most likely token at temperature 0 without drawing a number', () => {
    expect(sample(LOGITS, { temperature: 0, topP: 1 }, () => Number.NaN)).toBe(1);
  });

  it.each([1, 0.5, 2])('draws in proportion to softmax(logits / %f)', (temperature) => {
    const weights = [...LOGITS].map((logit) => Math.exp(logit / temperature));
    const total = weights.reduce((a, b) => a + b, 0);
    // Four standard errors of a share of 20,000 draws.
    draws(temperature, 1).forEach((share, i) => {
      expect(Math.abs(share - (weights[i] as number) / total)).toBeLessThan(4 * Math.sqrt(0.25 / 20_000));
    });
  });

  it.each([
    [0.5, [1]],
    [0.8, [1, 2]],
    [0.95, [0, 1, 2]],
    [1, [0, 1, 2, 3]],
  ])('with top-p %f draws from the smallest set that reaches it', (topP, expected) => {
    expect(draws(1, topP).flatMap((share, token) => (share > 0 ? [token] : []))).toEqual(expected);
  });
});

describe('generate', () => {
  beforeAll(() => useBackend('wasm'));
  const options: GenerateOptions = {
    mode: 'predictor',
    tokens: 8,
    temperature: 1,
    topP: 0.9,
    seed: 3,
    now: () => 0,
  };
  const prompts = [Int32Array.from([1, 2, 3]), Int32Array.from([4, 5, 6, 7, 8])];

  it('gives the same tokens for the same seed, passed to onToken in order, and others for another seed', async () => {
    const model = loadModel('test/golden/mod-raw-f2');
    const streamed: number[][] = [[], []];
    const first = await generate(model, prompts, {
      ...options,
      onToken: (i, token) => void streamed[i]?.push(token),
    });
    expect(streamed).toEqual(first.tokens.map((row) => [...row]));
    expect((await generate(model, prompts, options)).tokens).toEqual(first.tokens);
    expect((await generate(model, prompts, { ...options, seed: 4 })).tokens).not.toEqual(first.tokens);
    expect(first.selected.map((row) => row.length)).toEqual([3 + 7, 5 + 7]);
    model.dispose();
  });

  it('continues a prompt in a batch in the same way as alone', async () => {
    const model = loadModel('test/golden/mod-raw-f2');
    const greedy = { ...options, temperature: 0 };
    const together = await generate(model, prompts, greedy);
    for (const [i, prompt] of prompts.entries()) {
      const alone = await generate(model, [prompt], greedy);
      expect(alone.tokens[0]).toEqual(together.tokens[i]);
      expect(alone.selected[0]).toEqual(together.selected[i]);
    }
    model.dispose();
  });
});
