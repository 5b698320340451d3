/** Held-out losses by document: boundaries at end-of-text tokens, across windows and batches; the row of eval.csv follows. */
import { beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/checkpoint/model.js';
import { type Batch, HeldoutWindows } from '../../src/data/batches.js';
import { openTokenFile } from '../../src/data/tokens.js';
import { addDocuments, emptySums, lossClusters } from '../../src/eval/loss-sums.js';
import { evaluateModes, lossesByMode } from '../../src/eval/modes.js';
import { ROUTING_MODES } from '../../src/model/config.js';
import { weightsProblem } from '../../src/model/routing-modes.js';
import { differencesOf } from '../../src/results/heldout-losses.js';
import { clusteredMean } from '../../src/statistics.js';
import { useBackend } from '../support/backends.js';

const batchOf = (targets: number[]): Batch => ({
  sequences: 1,
  inputs: new Int32Array(targets.length),
  targets: Int32Array.from(targets),
});

describe('documents', () => {
  it('end with their end-of-text token and continue across batches', () => {
    const sums = emptySums(0);
    addDocuments(sums, batchOf([7, 8, 0, 9]), Float32Array.of(1, 2, 4, 8), 0);
    addDocuments(sums, batchOf([9, 0, 0, 5]), Float32Array.of(16, 32, 64, 128), 0);
    const restored = JSON.parse(JSON.stringify(sums)); // as an interrupted evaluation saves it
    addDocuments(restored, batchOf([5, 0]), Float32Array.of(256, 512), 0);
    expect(lossClusters(restored, 4)).toEqual({
      unit: 'documents',
      clusters: [
        { sum: 7, size: 3 },
        { sum: 56, size: 3 },
        { sum: 64, size: 1 },
        { sum: 896, size: 3 },
      ],
    });
  });

  it('are replaced by sequences if there is only one, or their ends are unknown', () => {
    for (const sums of [emptySums(0), emptySums(null)]) {
      addDocuments(sums, batchOf([7, 8, 9, 0]), Float32Array.of(1, 2, 4, 8), 0);
      sums.sequences.push(3, 12);
      expect(lossClusters(sums, 2)).toEqual({
        unit: 'sequences',
        clusters: [
          { sum: 3, size: 2 },
          { sum: 12, size: 2 },
        ],
      });
    }
  });
});

describe('an evaluation in all modes', () => {
  const CASE = 'test/golden/mod-sigmoid-f1-aux-untied';
  beforeAll(() => useBackend('wasm'));

  const evaluated = async (endOfText: number | null, batchSequences = 3) => {
    const model = loadModel(CASE);
    const source = openTokenFile(`${CASE}/tokens.bin`, 2, model.config.vocab_size);
    const length = model.config.sequence_length;
    try {
      const windows = new HeldoutWindows(source, length);
      const backend = { name: 'wasm', device: '' } as const;
      const results = await evaluateModes(model, windows, {
        runId: 'a',
        modes: ROUTING_MODES.filter((mode) => weightsProblem(model, mode) === null),
        sequences: windows.count,
        batchSequences,
        endOfText,
        seed: 0,
        backend: { ...backend, peakMemoryBytes: () => 0 },
        now: () => 0,
      });
      const { targets } = windows.read(0, windows.count);
      return { results, targets, windows: windows.count, length };
    } finally {
      source.close();
      model.dispose();
    }
  };

  it('has the documents of the held-out tokens, whatever the batches, and clustered standard errors', async () => {
    const { results, targets } = await evaluated(5);
    const { results: others } = await evaluated(5, 1);
    const ends = targets.filter((token) => token === 5).length;
    const documents = ends + (targets.at(-1) === 5 ? 0 : 1);
    expect(documents).toBeGreaterThan(2);
    const table = lossesByMode(results);
    expect(table).toMatchObject({ unit: 'documents', counts: Array(documents).fill(1) });
    expect(table.tokens.reduce((a, b) => a + b, 0)).toBe(targets.length);
    for (const [i, { row, losses }] of results.entries()) {
      const { mean, standardError } = clusteredMean(losses.clusters);
      expect(mean).toBeCloseTo(row.loss, 5); // means of sequences are float32
      expect(row).toMatchObject({ documents, loss_se: standardError });
      const difference = clusteredMean(differencesOf(table, row.routing, table, 'topk') ?? []);
      expect(difference.mean).toBeCloseTo(row.loss_minus_topk as number, 5);
      expect(row.loss_minus_topk_se).toBeCloseTo(difference.standardError as number, 12);
      expect(others[i]?.losses.clusters.map(({ size }) => size)).toEqual(table.tokens);
      expect(others[i]?.row.loss_se).toBeCloseTo(row.loss_se as number, 5);
    }
    expect(results[0]?.row.loss_minus_topk_se).toBe(0);
    expect(results[1]?.row.loss_minus_topk_se).toBeGreaterThan(0);
  });

  it('has sequences where the end-of-text token is unknown or never occurs', async () => {
    for (const endOfText of [null, 1e6]) {
      const { results, windows, length } = await evaluated(endOfText);
      for (const { row, losses } of results) {
        expect(row.documents).toBeNull();
        expect(losses.unit).toBe('sequences');
        expect(losses.clusters.map(({ size }) => size)).toEqual(Array(windows).fill(length));
        expect(clusteredMean(losses.clusters).standardError).toBeCloseTo(row.loss_se as number, 9);
      }
    }
  });
});
