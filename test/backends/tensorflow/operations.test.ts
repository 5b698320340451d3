/** The project's own operations in TensorFlow at the edges: large values, no values, masks, memory of others, threads. */
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

  it('gelu and its slope are right at every size of x', () => {
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

  it('what is not a number stays so, in its row', () => {
    const x = randomTensor([3, 20], 'x');
    const broken = tensor(
      x.dataSync().map((value, i) => (i === 25 ? Number.NaN : value)),
      x.shape,
    );
    const gain = ones(randomTensor([20], 'gain'));
    const [normed, inverseRms] = rmsNormKernel({ x: broken, gain }, {});
    const results: [string, Tensor, number[]][] = [
      ['gelu', geluKernel({ x: broken }, {})[0], [25]],
      ['its slope', geluGradKernel({ dy: ones(x), x: broken }, {})[0], [25]],
      ['norm', normed, Array.from({ length: 20 }, (_, i) => 20 + i)],
      [
        'its slope',
        rmsNormGradKernel({ dy: x, x: broken, gain, inverseRms, gradAccum: undefined }, {})[0],
        Array.from({ length: 20 }, (_, i) => 20 + i),
      ],
    ];
    for (const [name, result, expected] of results) {
      const where = [...result.dataSync()].flatMap((value, i) => (Number.isNaN(value) ? [i] : []));
      expect([name, where]).toEqual([name, expected]);
    }
    // Three tokens of one head; the second's query is broken: its row and no other.
    const qkv = tensor([...Array<number>(6).fill(1), Number.NaN, ...Array<number>(11).fill(1)], [1, 3, 6]);
    const [attended] = causalAttentionKernel({ qkv }, { heads: 1 });
    expect([...attended.dataSync()].map(Number.isNaN)).toEqual([false, false, true, true, false, false]);
  });

  it.each([1, 15, 16, 17, 50])(
    'attention weights of %i keys: large scores, -inf, and what is masked',
    (keys) => {
      const queries = keys + 3;
      const scores = Array.from({ length: queries * keys }, (_, i) =>
        i % 7 === 3 ? Number.NEGATIVE_INFINITY : ((i * 7919) % 2001) - 1000,
      );
      // Key 0 can be seen by everyone: no row is without weights.
      for (let i = 0; i < queries; i++) scores[i * keys] = i;
      const given = calls.reshape(calls.input(tensor(scores)), [1, queries, keys]);
      const inputs = [calls.run('DeepCopy', [given]), calls.scalar(0.25), calls.whole(0)];
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

  it('writes in the place of a tensor that nobody else holds, and leaves the others alone', () => {
    const [x, table] = [randomTensor([1, 5, 24], 'x'), rotaryTable(5, 4)];
    const before = x.dataSync().slice();
    const other = x.clone();
    const [turned] = rotaryKernel({ qkv: x, table, positions: undefined }, {});
    expect(other.dataSync()).toEqual(before);
    other.dispose();
    const [again] = rotaryKernel({ qkv: x, table, positions: undefined }, {});
    expect(again.dataSync()).toEqual(turned.dataSync());
    expect(x.dataSync()).toEqual(turned.dataSync());
  });

  it('shapes that do not fit are an error', () => {
    const [a, b] = [calls.input(randomTensor([3, 4], 'a')), calls.input(randomTensor([3, 5], 'b'))];
    expect(() => calls.run('ModGeluGrad', [a, b])).toThrow('dy and x differ in shape');
    expect(() => calls.runAll('ModRmsNorm', [a, b, calls.scalar(1)], [], 2)).toThrow('gain');
    const qkv = calls.input(randomTensor([1, 2, 12], 'qkv'));
    const [table, far] = [calls.input(rotaryTable(2, 4)), calls.vector([0, 2])];
    expect(() => calls.run('ModRotary', [qkv, table, calls.scalar(1), far], [int('n', 1)])).toThrow(
      'a position beyond the table',
    );
  });

  it('gives the same bits on one thread and on several', () => {
    const script = join(import.meta.dirname, 'operations-hash.mjs');
    const [one, several] = ['1', '5'].map((threads) => {
      const { stdout, stderr } = spawnSync(process.execPath, [script, threads], { encoding: 'utf8' });
      return /[0-9a-f]{64}/.exec(stdout)?.[0] ?? `no hash: ${stderr}`;
    });
    expect(one).toMatch(/^[0-9a-f]{64}$/);
    expect(several).toBe(one);
  });
});
