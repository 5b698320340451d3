/** Decoding with caches: each step has the logits of the full causal forward pass; caches contain only selected tokens. */
import { memory, tensor2d } from '@tensorflow/tfjs-core';
import * as fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/checkpoint/model.js';
import { CAUSAL_MODES, type CausalMode, routedBlocks } from '../../src/model/config.js';
import { Decoder } from '../../src/model/decoder.js';
import type { Transformer } from '../../src/model/transformer.js';
import { scope } from '../../src/ops/scope.js';
import { TEST_BACKENDS, useBackend } from '../support/backends.js';
import { randomValues, relativeError } from '../support/numbers.js';

function randomTokens(count: number, vocabSize: number, seed: number): Int32Array {
  return Int32Array.from(
    randomValues(count, 'decoder', seed),
    (x) => Math.floor(Math.abs(x) * 1e4) % vocabSize,
  );
}

/** Logits of every position, and which tokens each routed block selected. */
function fullForward(model: Transformer, tokens: Int32Array, mode: CausalMode) {
  return scope(() => {
    const result = model.forward(tensor2d(tokens, [1, tokens.length], 'int32'), {
      tape: null,
      mode,
      drawn: null,
    });
    return {
      logits: result.logits.dataSync() as Float32Array,
      selected: result.routed.map(({ mask }) => Array.from(mask.dataSync(), (value) => value === 1)),
    };
  });
}

/** The same by a decoder: each sequence's first `prompts[i]` tokens at once, the others one by one. */
function decoded(model: Transformer, sequences: Int32Array[], prompts: number[], mode: CausalMode) {
  const length = (sequences[0] as Int32Array).length;
  const V = model.config.vocab_size;
  const decoder = new Decoder(model, mode, sequences.length, length + Math.max(...prompts));
  const start = decoder.prefill(sequences.map((tokens, i) => tokens.slice(0, prompts[i])));
  const logits = sequences.map((_, i) => [
    [...(start.logits.dataSync().slice(i * V, (i + 1) * V) as Float32Array)],
  ]);
  const selected = start.selected;
  start.logits.dispose();
  for (let step = 0; step < length - Math.max(...prompts); step++) {
    const next = Int32Array.from(sequences, (tokens, i) => tokens[(prompts[i] as number) + step] as number);
    const result = decoder.step(next);
    sequences.forEach((_, i) => {
      logits[i]?.push([...(result.logits.dataSync().slice(i * V, (i + 1) * V) as Float32Array)]);
      for (const [j, block] of result.selected.entries()) selected[i]?.[j]?.push(block[i] as boolean);
    });
    result.logits.dispose();
  }
  const bytes = decoder.cacheBytes();
  decoder.dispose();
  return { logits, selected, bytes };
}

describe.each(TEST_BACKENDS)('on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it.each([
    // A model without routed blocks decodes the same way in every mode.
    ...['baseline', 'moe', 'mode-integrated'].map((name) => [name, CAUSAL_MODES[0]]),
    ...['mod-raw-f2', 'mod-sigmoid-f1-aux-untied', 'mode-staged'].flatMap((name) =>
      CAUSAL_MODES.map((mode) => [name, mode]),
    ),
  ] as [string, CausalMode][])(
    '%s under %s decodes to the logits of the full causal forward pass',
    (name, mode) => {
      const model = loadModel(`test/golden/${name}`);
      model.thresholds = routedBlocks(model.config).map((_, i) => 0.1 - 0.2 * i); // the golden cases have none
      const { vocab_size: V, sequence_length: T } = model.config;
      fc.assert(
        fc.property(
          fc.nat(),
          fc.array(fc.integer({ min: 1, max: T / 2 }), { minLength: 1, maxLength: 3 }),
          (seed, prompts) => {
            const length = T - Math.max(...prompts);
            const sequences = prompts.map((_, i) => randomTokens(length, V, seed + i));
            if (Math.max(...prompts) > length) return;
            const before = memory().numTensors;
            const { logits, selected } = decoded(model, sequences, prompts, mode);
            expect(memory().numTensors).toBe(before);
            sequences.forEach((tokens, i) => {
              const prompt = prompts[i] as number;
              const steps = (logits[i] as number[][]).length;
              const full = fullForward(model, tokens.slice(0, prompt + steps - 1), mode);
              const reference = full.logits.slice((prompt - 1) * V);
              expect(relativeError((logits[i] as number[][]).flat(), reference)).toBeLessThan(1e-4);
              expect(selected[i]).toEqual(full.selected);
            });
          },
        ),
        { numRuns: backend === 'wasm' ? 12 : 4 },
      );
      model.dispose();
    },
  );

  it('a routed block caches only the tokens that it selects, a dense block all tokens', () => {
    const model = loadModel('test/golden/mod-raw-f2');
    const { n_layers, d_model, vocab_size, sequence_length: T } = model.config;
    const { selected, bytes } = decoded(model, [randomTokens(T - 4, vocab_size, 1)], [4], 'predictor');
    const cached = (selected[0] as boolean[][]).flat().filter(Boolean).length;
    const tokens = selected[0]?.[0]?.length as number;
    const perToken = 2 * d_model * 4;
    expect(bytes.used).toBe((cached + (tokens * n_layers) / 2) * perToken);
    expect(bytes.dense).toBe(tokens * n_layers * perToken);
    expect(bytes.allocated).toBeLessThanOrEqual(2 * bytes.dense);
    model.dispose();
  });

  it('rejects more tokens than the model has positions', () => {
    const model = loadModel('test/golden/baseline');
    expect(() => new Decoder(model, 'predictor', 1, model.config.sequence_length + 1)).toThrow(RangeError);
    model.dispose();
  });
});
