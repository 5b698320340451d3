/** `mod bench`: step time, rate and memory of shapes on this machine, beside the backend's own plain product. */
import { execFileSync } from 'node:child_process';
import { hostname } from 'node:os';
import { chooseBackend } from '../backends/choose.js';
import { addBenchRecord, type BenchRecord, benchRecordPath } from '../bench/record.js';
import { type BenchShape, parseShape } from '../bench/shape.js';
import { measureStep, type StepMeasurement } from '../bench/step.js';
import { messageOf } from '../errors.js';
import { rate, table } from '../format.js';
import type { ModelConfig } from '../model/config.js';
import type { BackendName, Precision } from '../plan/run.js';

export interface BenchCommandOptions {
  shape: string[];
  steps: number;
  profile: boolean;
  json: boolean;
  backend: BackendName | 'auto';
  precision: Precision;
}

/** A dense model and the paper's routed one of the same shape. */
export const DEFAULT_SHAPES = ['d128l4t256b8v256', 'd128l4t256b8v256c0.125f2'];
const WARMUP_STEPS = 2;

interface BenchRow extends StepMeasurement {
  shape: string;
  backend: BackendName;
  device: string;
  precision: 'fp32' | 'bf16';
  peakMemoryBytes: number;
}

export async function benchCommand(options: BenchCommandOptions, out: (text: string) => void): Promise<void> {
  const shapes = options.shape.length > 0 ? options.shape : DEFAULT_SHAPES;
  const [only, ...others] = shapes.map(parseShape) as [BenchShape, ...BenchShape[]];
  const rows =
    others.length === 0
      ? [await measureHere(only, options)]
      : shapes.map((shape) => measureApart(shape, options));
  out(options.json ? JSON.stringify(rows, null, 1) : report(rows));
}

async function measureHere(
  { name, model, batchSequences }: BenchShape,
  options: BenchCommandOptions,
): Promise<BenchRow> {
  const chosen = await chooseBackend(options.backend, options.precision);
  const { steps, profile } = options;
  const measured = measureStep(model, { batchSequences, warmup: WARMUP_STEPS, steps, profile });
  const peakMemoryBytes = chosen.peakMemoryBytes();
  const { name: backend, device, precision } = chosen;
  const row = { shape: name, backend, device, precision, peakMemoryBytes, ...measured };
  remember(row, model);
  return row;
}

/** Leaves what was measured for `mod plan`. A cache folder that cannot be written spoils no measurement. */
function remember(row: BenchRow, model: ModelConfig): void {
  const { shape, backend, device, precision, flopsPerSecond } = row;
  const record: BenchRecord = {
    host: hostname(),
    backend,
    device,
    precision,
    shape,
    d_model: model.d_model,
    routed: model.routing !== null,
    flops_per_second: flopsPerSecond,
    measured_at: new Date().toISOString(),
  };
  try {
    addBenchRecord(benchRecordPath(), record);
  } catch (error) {
    process.stderr.write(`mod: not remembered for mod plan: ${messageOf(error)}\n`);
  }
}

/** In a process of its own: peak memory is a process' peak. */
function measureApart(shape: string, options: BenchCommandOptions): BenchRow {
  const { backend, precision, steps, profile } = options;
  const flags = [
    '--backend',
    backend,
    '--precision',
    precision,
    '--steps',
    String(steps),
    ...(profile ? ['--profile'] : []),
  ];
  const args = [
    ...process.execArgv,
    process.argv[1] as string,
    'bench',
    '--json',
    '--shape',
    shape,
    ...flags,
  ];
  const printed = execFileSync(process.execPath, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [row] = JSON.parse(printed) as [BenchRow];
  return row;
}

function report(rows: BenchRow[]): string {
  const [first] = rows as [BenchRow];
  const head = ['shape', 'step ms', 'tok/s', 'FLOP/s', 'product', 'share', 'peak MiB'];
  const cells = rows.map((row) => [
    row.shape,
    row.stepMs.toFixed(1),
    rate(row.tokensPerSecond),
    rate(row.flopsPerSecond),
    rate(row.productFlopsPerSecond),
    percent(row.flopsPerSecond / row.productFlopsPerSecond),
    (row.peakMemoryBytes / 2 ** 20).toFixed(0),
  ]);
  const parts = [`${first.backend} on ${first.device}`, table(head, cells), ...rows.flatMap(profileOf)];
  for (const row of rows.slice(1)) parts.push(comparison(first, row));
  return parts.join('\n\n');
}

/** How much of the time that fewer FLOPs promise is really saved. */
function comparison(dense: BenchRow, other: BenchRow): string {
  const [steps, flops] = [other.stepMs / dense.stepMs, other.flopsPerPass / dense.flopsPerPass];
  const saved =
    flops < 1 ? `; of the time that the FLOPs promise, ${percent((1 - steps) / (1 - flops))} is saved` : '';
  return `${other.shape} over ${dense.shape}: step ${steps.toFixed(3)}, FLOPs ${flops.toFixed(3)}${saved}`;
}

function profileOf({ shape, profile }: BenchRow): string[] {
  if (profile === null) return [];
  const rows = profile.map(({ kernel, share, calls }) => [kernel, percent(share), String(calls)]);
  return [`${shape}, where a step goes:\n${table(['op', 'share', 'calls'], rows)}`];
}

const percent = (share: number) => `${(100 * share).toFixed(1)}%`;
