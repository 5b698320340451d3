/** Each gate: its slope is the derivative of its value, and its tensor form equals its scalar form on every backend. */
import { readFileSync } from 'node:fs';
import { tensor1d } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { GATE_NAMES, GATES } from '../../src/ops/gates.js';
import { TEST_BACKENDS, useBackend } from '../support/backends.js';

/** cuda has the gates inside its kernels, which the cases of every gate in test/backends/cuda/kernels.test.ts check. */
const COMPOSING = TEST_BACKENDS.filter((name) => name !== 'cuda');
const weights = fc.double({ min: -8, max: 8, noNaN: true });

/** By its text: test/examples/pytorch.test.ts, which compares losses, needs PyTorch. */
it.each(GATE_NAMES)('examples/pytorch has the gate %s', (name) => {
  expect(readFileSync('examples/pytorch/model.py', 'utf8')).toMatch(new RegExp(`^GATES = .*'${name}':`, 'm'));
});

describe.each(GATE_NAMES)('the gate %s', (name) => {
  const { value, slope, values, slopes } = GATES[name];

  it('has a slope that is the derivative of its value', () => {
    // Central differences in float64: h² of curvature and 1e-16/h of rounding are both below 1e-9 for h = 1e-5.
    const h = 1e-5;
    fc.assert(
      fc.property(weights, (r) => {
        const measured = (value(r + h) - value(r - h)) / (2 * h);
        expect(Math.abs(measured - slope(r))).toBeLessThan(1e-7 * Math.max(1, Math.abs(slope(r))));
      }),
    );
  });

  describe.each(COMPOSING)('on %s', (backend) => {
    beforeAll(() => useBackend(backend));

    it('has tensor forms that equal the scalar ones', () => {
      fc.assert(
        fc.property(fc.array(weights, { minLength: 1, maxLength: 20 }), (list) => {
          const r = tensor1d(list);
          const pairs = [
            [values(r), value],
            [slopes(r), slope],
          ] as const;
          for (const [actual, expected] of pairs) {
            const rounded = [...r.dataSync()];
            actual.dataSync().forEach((each, i) => {
              const exact = expected(rounded[i] as number);
              // A few units in the last place of float32.
              expect(Math.abs(each - exact)).toBeLessThan(1e-6 * Math.max(1, Math.abs(exact)));
            });
          }
        }),
        { numRuns: 20 },
      );
    });
  });
});
