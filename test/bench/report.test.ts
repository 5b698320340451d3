import { describe, expect, it } from 'vitest';
import type { DecodeMeasurement } from '../../src/bench/decode.js';
import { decodeReport, type Measured } from '../../src/bench/report.js';

const row = (shape: string, tokensPerSecond: number) =>
  ({
    ...{ shape, backend: 'wasm', device: 'a CPU', precision: 'fp32', peakMemoryBytes: 1 },
    ...{ tokensPerSecond, stepMs: 1000 / tokensPerSecond, prefillMs: 1, participation: null },
    ...{ cacheBytes: 1, denseCacheBytes: 1 },
  }) as Measured & DecodeMeasurement;

describe('decodeReport', () => {
  it('compares a routed shape with the dense one of its sizes and batch, in any order', () => {
    const rows = [
      row('d128l4t256b64v256', 900),
      row('d128l4t256b1v256c0.125f2', 150),
      row('d128l4t256b1v256', 100),
      row('d256l4t256b1v256c0.125f2', 50),
    ];
    const lines = decodeReport(rows).split('\n').slice(-4);
    expect(lines.map((line) => line.trim().split(/\s+/).at(-1))).toEqual(['-', '1.50×', '-', '-']);
  });
});
