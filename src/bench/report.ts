/** The tables that `mod bench` prints. */
import { bytes, rate, table } from '../format.js';
import { COORDINATES, type CoordinateBase, type CoordinateCheck, MAX_EXPONENT } from './coordinates.js';
import type { DecodeMeasurement } from './decode.js';
import type { ModelSize } from './memory.js';
import type { StepMeasurement } from './step.js';

/** Shape and place of a measurement. */
export interface Measured {
  shape: string;
  backend: string;
  device: string;
  precision: string;
  peakMemoryBytes: number;
}

/** The routing part of a shape's name. */
const ROUTING = /c[\d.]+f\d+/;

const percent = (share: number) => `${(100 * share).toFixed(1)}%`;

const place = ([first]: readonly Measured[]) => `${first?.backend} on ${first?.device}, ${first?.precision}`;

export function stepReport(rows: (Measured & StepMeasurement)[]): string {
  const [first, ...others] = rows as [Measured & StepMeasurement];
  const head = ['shape', 'step ms', 'tok/s', 'FLOP/s', 'product', 'share', 'peak memory'];
  const cells = rows.map((row) => [
    row.shape,
    row.stepMs.toFixed(1),
    rate(row.tokensPerSecond),
    rate(row.flopsPerSecond),
    rate(row.productFlopsPerSecond),
    percent(row.flopsPerSecond / row.productFlopsPerSecond),
    bytes(row.peakMemoryBytes),
  ]);
  const comparisons = others.map((row) => comparison(first, row));
  return [place(rows), table(head, cells), ...rows.flatMap(profileOf), ...comparisons].join('\n\n');
}

/** Ratios of time and FLOPs, and the share of the saved FLOPs that is saved as time. */
function comparison(dense: Measured & StepMeasurement, other: Measured & StepMeasurement): string {
  const [steps, flops] = [other.stepMs / dense.stepMs, other.flopsPerPass / dense.flopsPerPass];
  const saved =
    flops < 1 ? `; ${percent((1 - steps) / (1 - flops))} of the saved FLOPs are saved as time` : '';
  return `${other.shape} / ${dense.shape}: step time ${steps.toFixed(3)}, FLOPs ${flops.toFixed(3)}${saved}`;
}

function profileOf({ shape, profile }: Measured & StepMeasurement): string[] {
  if (profile === null) return [];
  const { kernels, busy, peak } = profile;
  const total = kernels.reduce((sum, { ms }) => sum + ms, 0);
  const rows = kernels.map(({ kernel, ms, calls, leastMs }) => [
    kernel,
    ms.toFixed(3),
    percent(ms / total),
    String(calls),
    leastMs === null ? '-' : percent(leastMs / ms),
  ]);
  const notes = [
    ...(busy === null ? [] : [`device busy for ${percent(busy)} of the step`]),
    ...(peak === null
      ? []
      : [
          `roofline: ${rate(peak.flopsPerSecond)} FLOP/s, ${rate(peak.bytesPerSecond)} bytes/s, from the GPU's data sheet`,
        ]),
  ];
  const head = ['op', 'ms', 'share', 'calls', 'of roofline'];
  return [[`${shape}, time per op in one step:`, table(head, rows), ...notes].join('\n')];
}

export function decodeReport(rows: (Measured & DecodeMeasurement)[]): string {
  const head = [
    ...['shape', 'ms/token', 'tok/s', 'prefill ms', 'participation', 'cache', 'of dense'],
    'speed over dense',
  ];
  const cells = rows.map((row) => [
    row.shape,
    row.stepMs.toFixed(3),
    rate(row.tokensPerSecond),
    row.prefillMs.toFixed(1),
    row.participation?.toFixed(3) ?? '-',
    bytes(row.cacheBytes),
    (row.cacheBytes / row.denseCacheBytes).toFixed(3),
    speedOverDense(row, rows),
  ]);
  return [place(rows), table(head, cells)].join('\n\n');
}

/** Speed of a routed shape over the dense one of the same sizes, if that was measured too. */
function speedOverDense(
  row: Measured & DecodeMeasurement,
  rows: readonly (Measured & DecodeMeasurement)[],
): string {
  const name = row.shape.replace(ROUTING, '');
  const dense = rows.find(({ shape }) => shape === name && shape !== row.shape);
  return dense === undefined ? '-' : `${(row.tokensPerSecond / dense.tokensPerSecond).toFixed(2)}×`;
}

export function memoryReport(rows: (Measured & ModelSize)[]): string {
  const head = ['shape', 'params', 'FLOPs/pass', 'peak training memory', 'of dense', 'cache', 'of dense'];
  const [dense] = rows as [Measured & ModelSize];
  const cells = rows.map((row) => [
    row.shape,
    rate(row.params),
    row.flopsPerPass.toExponential(3),
    bytes(row.peakMemoryBytes),
    (row.peakMemoryBytes / dense.peakMemoryBytes).toFixed(3),
    bytes(row.cacheBytes),
    (row.cacheBytes / dense.cacheBytes).toFixed(3),
  ]);
  return [place(rows), table(head, cells)].join('\n\n');
}

/** The sizes by shape, and how they depend on it. */
export function coordinateReport(base: CoordinateBase, { shapes, exponents }: CoordinateCheck): string {
  const number = (value: number) => value.toPrecision(3);
  const signed = (value: number) => `${value < 0 ? '-' : '+'}${Math.abs(value).toFixed(2)}`;
  const sizes = table(
    ['parametrization', 'width', 'layers', ...COORDINATES],
    shapes.map(({ parametrization, d_model, n_layers, sizes: of }) => [
      parametrization,
      String(d_model),
      String(n_layers),
      ...COORDINATES.map((name) => number(of[name])),
    ]),
  );
  const fitted = table(
    ['parametrization', 'activation', 'by width', 'by depth', ''],
    exponents.map(({ parametrization, coordinate, by_width, by_depth, stable }) => [
      parametrization,
      coordinate,
      signed(by_width),
      signed(by_depth),
      stable === null ? '' : stable ? 'stable' : `beyond ±${MAX_EXPONENT}`,
    ]),
  );
  return [
    `Base: width ${base.d_model}, ${base.n_layers} layers, heads of ${base.head_size}; MoD of 12.5% in every other block`,
    `Root mean squares after training:\n${sizes}`,
    `Exponents: size ∝ width^a at ${base.n_layers} layers, ∝ layers^b at width ${base.d_model}\n${fitted}`,
  ].join('\n\n');
}
