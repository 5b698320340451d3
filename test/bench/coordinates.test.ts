/** The coordinate check at a very small base: standard grows with width and depth, complete does not. */
import { beforeAll, expect, it } from 'vitest';
import { type Coordinate, checkCoordinates, SMALL_BASE } from '../../src/bench/coordinates.js';
import { coordinateReport } from '../../src/bench/report.js';
import type { ParametrizationName } from '../../src/model/parametrization.js';
import { useBackend } from '../support/backends.js';

beforeAll(() => useBackend('wasm'));

it('finds the exponents of both parametrizations', async () => {
  const base = {
    ...SMALL_BASE,
    d_model: 32,
    n_layers: 4,
    head_size: 8,
    sequence_length: 16,
    batch_sequences: 2,
  };
  const check = await checkCoordinates({ base, steps: 10, seeds: [0], recorder: null });
  const of = (parametrization: ParametrizationName, coordinate: Coordinate) => {
    const found = check.exponents.find(
      (each) => each.parametrization === parametrization && each.coordinate === coordinate,
    );
    return [found?.by_width ?? Number.NaN, found?.by_depth ?? Number.NaN] as const;
  };
  const [standardWidth, standardDepth] = of('standard', 'residual stream');
  const [width, depth] = of('complete', 'residual stream');
  expect(standardWidth).toBeGreaterThan(0.3);
  expect(standardDepth).toBeGreaterThan(0.3);
  // At such a base the limits of width and depth are far: the bound of 0.1 is for the sizes of `mod bench`.
  expect(Math.abs(width)).toBeLessThan(0.25);
  expect(Math.abs(depth)).toBeLessThan(0.3);
  expect(of('standard', 'logits')[0]).toBeGreaterThan(0.3);
  expect(Math.abs(of('complete', 'logits')[0])).toBeLessThan(0.2);
  expect(check.shapes).toHaveLength(14);
  const stable = check.exponents.filter((each) => each.stable !== null);
  expect(stable.map(({ parametrization, coordinate }) => [parametrization, coordinate])).toEqual([
    ['complete', 'residual stream'],
    ['complete', 'logits'],
  ]);
  expect(coordinateReport(base, check)).toMatch(/^standard +residual stream +\+\d\.\d\d +\+\d\.\d\d$/m);
});
