/** Edge cases of the project's own TensorFlow operations: large values, NaN, masks, shared memory, wrong shapes, threads. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { engine, type Tensor, tensor } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { Calls, int, type NodeBackend, TENSORFLOW } from '../../../src/backends/tensorflow/calls.js';
import { causalAttentionKernel } from '../../../src/ops/causal-attention.js';
import { geluGradKernel, geluKernel } from '../../../src/ops/gelu.js';
import { rmsNormGradKernel, rmsNormKernel } from '../../../src/ops/rms-norm.js';
import { rotaryKernel, rotaryTable } from '../../../src/ops/rotary.js';
import { tensorflowMissing, useBackend } from '../../support/backends.js';
import { randomTensor } from '../../support/numbers.js';

/** [gelu(x), gelu'(x)] in float64. */
function exactGelu(x: number): [number, number] {
  const c = Math.sqrt(2 / Math.PI);
  const t = Math.tanh(c * (x + 0.044715 * x ** 3));
  return [(x * (1 + t)) / 2, (1 + t) / 2 + ((x * (1 - t * t)) / 2) * c * (1 + 3 * 0.044715 * x * x)];
}

describe.skipIf(tensorflowMissing !== null)("the project's own operations in TensorFlow", () => {
  let calls: Calls;
  beforeAll(async () => {
    await useBackend('tensorflow');
    calls = new Calls(engine().findBackend(TENSORFLOW) as unknown as NodeBackend);
  });
  const values = (handle: { id: number }) => calls.backend.binding.tensorDataSync(handle.id);
  const ones = (x: Tensor) => tensor(new Float32Array(x.size).fill(1), x.shape);

  it('gelu and its derivative are accurate for small and large x', () => {
    const grid = Float32Array.from({ length: 4001 }, (_, i) => (i - 2000) / 100);
    const x = tensor([...grid, -1e6, -1e3, -1e-30, 0, 1e-30, 1e3, 1e6]);
    const [y] = geluKernel({ x }, {});
    const [dx] = geluGradKernel({ dy: ones(x), x }, {});
    const [actual, slopes] = [y.dataSync(), dx.dataSync()];
    x.dataSync().forEach((value, i) => {
      const [expected, slope] = exactGelu(value);
      // float32's own error where 1 + tanh cancels is relative to x.
      expect(Math.abs((actual[i] as number) - expected)).toBeLessThanOrEqual(3e-7 * Math.abs(value));
      expect(Math.abs((slopes[i] as number) - slope)).toBeLessThanOrEqual(2e-6);
    });
  });

  it('NaN stays NaN and does not spread to other rows', () => {
    const x = randomTensor([3, 20], 'x');
    const broken = tensor(
      x.dataSync().map((value, i) => (i === 25 ? Number.NaN : value)),
      x.shape,
    );
    const gain = ones(randomTensor([20], 'gain'));
    const [normed, inverseRms] = rmsNormKernel({ x: broken, gain }, {});
    const results: [string, Tensor, number[]][] = [
      ['gelu', geluKernel({ x: broken }, {})[0], [25]],
      ['its gradient', geluGradKernel({ dy: ones(x), x: broken }, {})[0], [25]],
      ['norm', normed, Array.from({ length: 20 }, (_, i) => 20 + i)],
      [
        'its gradient',
        rmsNormGradKernel({ dy: x, x: broken, gain, inverseRms, gradAccum: undefined }, {})[0],
        Array.from({ length: 20 }, (_, i) => 20 + i),
      ],
    ];
    for (const [name, result, expected] of results) {
      const where = [...result.dataSync()].flatMap((value, i) => (Number.isNaN(value) ? [i] : []));
      expect([name, where]).toEqual([name, expected]);
    }
    // Three tokens of one head; the second query is NaN, and so is its row only.
    const qkv = tensor([...Array<number>(6).fill(1), Number.NaN, ...Array<number>(11).fill(1)], [1, 3, 6]);
    const [attended] = causalAttentionKernel({ qkv }, { heads: 1 });
    expect([...attended.dataSync()].map(Number.isNaN)).toEqual([false, false, true, true, false, false]);
  });

  it.each([1, 15, 16, 17, 50])(
    'attention weights of %i keys: large scores, -inf and masked scores',
    (keys) => {
      const queries = keys + 3;
      const scores = Array.from({ length: queries * keys }, (_, i) =>
        i % 7 === 3 ? Number.NEGATIVE_INFINITY : ((i * 7919) % 2001) - 1000,
      );
      // Every query attends to key 0, so that each row has a weight.
      for (let i = 0; i < queries; i++) scores[i * keys] = i;
      const given = calls.reshape(calls.input(tensor(scores)), [1, queries, keys]);
      const inputs = [calls.run('DeepCopy', [given]), calls.float32(0.25), calls.int32(0)];
      const [weights, logSumExp] = calls.runAll('ModAttentionWeights', inputs, [], 2).map(values) as [
        Float32Array,
        Float32Array,
      ];
      for (let i = 0; i < queries; i++) {
        const row = scores.slice(i * keys, (i + 1) * keys).map((s, j) => (j <= i ? 0.25 * s : -Infinity));
        const top = Math.max(...row);
        const total = row.reduce((sum, s) => sum + Math.exp(s - top), 0);
        row.forEach((s, j) => {
          expect(weights[i * keys + j]).toBeCloseTo(Math.exp(s - top) / total, 6);
          if (s === -Infinity) expect(weights[i * keys + j]).toBe(0);
        });
        expect(logSumExp[i]).toBeCloseTo(top + Math.log(total), 3);
      }
    },
  );

  it('works in place on memory that is not shared, and on a copy otherwise', () => {
    const [x, table] = [randomTensor([1, 5, 24], 'x'), rotaryTable(5, 4)];
    const before = x.dataSync().slice();
    const other = x.clone();
    const [rotated] = rotaryKernel({ qkv: x, table, positions: undefined }, {});
    expect(other.dataSync()).toEqual(before);
    other.dispose();
    const [again] = rotaryKernel({ qkv: x, table, positions: undefined }, {});
    expect(again.dataSync()).toEqual(rotated.dataSync());
    expect(x.dataSync()).toEqual(rotated.dataSync());
  });

  it('shapes that do not match are an error', () => {
    const [a, b] = [calls.input(randomTensor([3, 4], 'a')), calls.input(randomTensor([3, 5], 'b'))];
    expect(() => calls.run('ModGeluGrad', [a, b])).toThrow('dy and x differ in shape');
    expect(() => calls.runAll('ModRmsNorm', [a, b, calls.float32(1)], [], 2)).toThrow('gain');
    const qkv = calls.input(randomTensor([1, 2, 12], 'qkv'));
    const [table, far] = [calls.input(rotaryTable(2, 4)), calls.vector([0, 2])];
    expect(() => calls.run('ModRotary', [qkv, table, calls.float32(1), far], [int('n', 1)])).toThrow(
      'a position is outside the table',
    );
  });

  it('gives the same bits on one thread and on five', () => {
    const script = join(import.meta.dirname, 'operations-hash.mjs');
    const [one, five] = ['1', '5'].map((threads) => {
      const { stdout, stderr } = spawnSync(process.execPath, [script, threads], { encoding: 'utf8' });
      return /[0-9a-f]{64}/.exec(stdout)?.[0] ?? `no hash: ${stderr}`;
    });
    expect(one).toMatch(/^[0-9a-f]{64}$/);
    expect(five).toBe(one);
  });
});
