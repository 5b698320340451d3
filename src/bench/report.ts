/** What `mod bench` prints for people. */
import { bytes, rate, table } from '../format.js';
import type { DecodeMeasurement } from './decode.js';
import type { ModelSize } from './memory.js';
import type { StepMeasurement } from './step.js';

/** Where something was measured. */
export interface Measured {
  shape: string;
  backend: string;
  device: string;
  precision: string;
  peakMemoryBytes: number;
}

/** How a shape says that it is routed. */
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

/** How much of the time that fewer FLOPs promise is really saved. */
function comparison(dense: Measured & StepMeasurement, other: Measured & StepMeasurement): string {
  const [steps, flops] = [other.stepMs / dense.stepMs, other.flopsPerPass / dense.flopsPerPass];
  const saved =
    flops < 1 ? `; of the time that the FLOPs promise, ${percent((1 - steps) / (1 - flops))} is saved` : '';
  return `${other.shape} over ${dense.shape}: step ${steps.toFixed(3)}, FLOPs ${flops.toFixed(3)}${saved}`;
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
    ...(busy === null ? [] : [`the device works at the step for ${percent(busy)} of its time`]),
    ...(peak === null
      ? []
      : [
          `roofline: ${rate(peak.flopsPerSecond)} FLOP/s, ${rate(peak.bytesPerSecond)} bytes/s, by the card's data sheet`,
        ]),
  ];
  const head = ['op', 'ms', 'share', 'calls', 'of roofline'];
  return [[`${shape}, where a step goes:`, table(head, rows), ...notes].join('\n')];
}

export function decodeReport(rows: (Measured & DecodeMeasurement)[]): string {
  const head = [
    ...['shape', 'ms a token', 'tok/s', 'prompt ms', 'participation', 'cache', 'of dense'],
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

/** A routed shape beside the dense one that it is but for its routing, if that was measured too. */
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
