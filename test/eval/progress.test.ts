/** An interrupted evaluation resumes, with the same result; an evaluation of another subject starts over. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { loadModel } from '../../src/checkpoint/model.js';
import { HeldoutWindows } from '../../src/data/batches.js';
import { openTokenFile } from '../../src/data/tokens.js';
import { evaluateModes } from '../../src/eval/modes.js';
import { EvaluationProgress } from '../../src/eval/progress.js';
import { ROUTING_MODES } from '../../src/model/config.js';
import { weightsProblem } from '../../src/model/routing-modes.js';
import { useBackend } from '../support/backends.js';

const CASE = 'test/golden/mod-sigmoid-f1-aux-untied';
let folder: string;
let path: string;
beforeAll(() => useBackend('wasm'));
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mod-progress-'));
  path = join(folder, 'progress.json');
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Evaluates in all modes, two windows at a time; throws after `stopAfter` batches. */
async function evaluated(stopAfter: number, subject = 'a') {
  const model = loadModel(CASE);
  const source = openTokenFile(`${CASE}/tokens.bin`, 2, model.config.vocab_size);
  let [batches, time] = [0, 0];
  try {
    const results = await evaluateModes(model, new HeldoutWindows(source, model.config.sequence_length), {
      runId: 'a',
      modes: ROUTING_MODES.filter((mode) => weightsProblem(model, mode) === null),
      sequences: 8,
      batchSequences: 2,
      seed: 0,
      endOfText: 5,
      backend: {
        name: 'wasm',
        device: 'a processor',
        peakMemoryBytes: () => 0,
      },
      now: () => 0,
      // Each call is 30 s later, so that progress is saved after every batch.
      progress: new EvaluationProgress(path, { subject }, () => (time += 30_000)),
      onProgress: () => {
        batches += 1;
        if (batches === stopAfter) throw new Error('interrupted');
      },
    });
    return { rows: results.map(({ row }) => row), batches };
  } finally {
    source.close();
    model.dispose();
  }
}

it.each([1, 3, 4, 5, 11])(
  'an evaluation interrupted after %i of 12 batches resumes with the same result',
  async (stopAfter) => {
    const whole = await evaluated(Number.POSITIVE_INFINITY, 'b');
    await expect(evaluated(stopAfter)).rejects.toThrow('interrupted');
    const rest = await evaluated(Number.POSITIVE_INFINITY);
    expect(rest.rows).toEqual(whole.rows);
    expect(rest.batches).toBe(12 - stopAfter);
  },
);

it('starts over for another subject, and after an unreadable file', async () => {
  await expect(evaluated(5)).rejects.toThrow('interrupted');
  expect((await evaluated(Number.POSITIVE_INFINITY, 'other')).batches).toBe(12);
  writeFileSync(path, '{"key": "');
  expect((await evaluated(Number.POSITIVE_INFINITY)).batches).toBe(12);
  new EvaluationProgress(path, {}).remove();
  expect(existsSync(path)).toBe(false);
});
