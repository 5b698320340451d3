/** `mod bench`: what shapes cost on this machine: a training step, a decoded token, memory. */
import { execFileSync } from 'node:child_process';
import { hostname } from 'node:os';
import { type ChosenBackend, chooseBackend } from '../backends/choose.js';
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';
import { measureDecode } from '../bench/decode.js';
import { memoryShapes, sizeOf } from '../bench/memory.js';
import { addBenchRecord, type BenchRecord, benchRecordPath } from '../bench/record.js';
import { decodeReport, type Measured, memoryReport, stepReport } from '../bench/report.js';
import { type BenchShape, parseShape } from '../bench/shape.js';
import { measureStep, type StepMeasurement } from '../bench/step.js';
import { InputError, messageOf } from '../errors.js';
import type { ModelConfig } from '../model/config.js';

export interface BenchCommandOptions {
  shape: string[];
  steps: number;
  profile: boolean;
  decode: boolean;
  memory: boolean;
  /** Of --decode: tokens of the prompt, and after it. */
  prompt: number;
  tokens: number;
  json: boolean;
  backend: RequestedBackend;
  precision: RequestedPrecision;
}

/** A dense model and the paper's routed one of the same shape. */
export const DEFAULT_SHAPES = ['d128l4t256b8v256', 'd128l4t256b8v256c0.125f2'];
const DEFAULT_DECODE_SHAPES = [1, 64].flatMap((batch) =>
  ['', 'c0.125f2'].map((routing) => `d128l4t768b${batch}v256${routing}`),
);
const WARMUP_STEPS = 4;
const DECODE_REPETITIONS = 3;

interface Kind<Row extends Measured> {
  shapes(given: string[]): string[];
  measure(shape: BenchShape, backend: ChosenBackend, options: BenchCommandOptions): Promise<Row>;
  report(rows: Row[]): string;
}

const STEP: Kind<Measured & StepMeasurement> = {
  shapes: (given) => (given.length > 0 ? given : DEFAULT_SHAPES),
  measure: async (shape, backend, options) => {
    const row = { ...(await trainSteps(shape, backend, options)), ...placeOf(shape, backend) };
    remember(row, backend, shape.model);
    return row;
  },
  report: stepReport,
};

const DECODE: Kind<Measured & Awaited<ReturnType<typeof measureDecode>>> = {
  shapes: (given) => (given.length > 0 ? given : DEFAULT_DECODE_SHAPES),
  measure: async (shape, backend, { prompt, tokens }) => {
    const { sequence_length: T } = shape.model;
    if (prompt + tokens > T) {
      throw new InputError(
        `--shape ${shape.name}: a prompt of ${prompt} and ${tokens} new tokens do not fit into ${T}`,
      );
    }
    const measured = await measureDecode(shape.model, {
      sequences: shape.batchSequences,
      promptTokens: prompt,
      newTokens: tokens,
      repetitions: DECODE_REPETITIONS,
      loops: backend.decodeLoops,
    });
    return { ...measured, ...placeOf(shape, backend) };
  },
  report: decodeReport,
};

const MEMORY: Kind<Measured & ReturnType<typeof sizeOf>> = {
  shapes: (given) => (given.length > 0 ? given : [DEFAULT_SHAPES[0] as string]),
  measure: async (shape, backend, options) => {
    await trainSteps(shape, backend, options);
    return { ...sizeOf(shape), ...placeOf(shape, backend) };
  },
  report: memoryReport,
};

/** Measures each shape in a process of its own, since peak memory is a process' peak; a single one in this one. */
export async function benchCommand(options: BenchCommandOptions, out: (text: string) => void): Promise<void> {
  if (options.decode) await run(DECODE, options, out);
  else if (options.memory) await run(MEMORY, { ...options, shape: comparedShapes(options) }, out);
  else await run(STEP, options, out);
}

async function run<Row extends Measured>(
  kind: Kind<Row>,
  options: BenchCommandOptions,
  out: (text: string) => void,
): Promise<void> {
  const shapes = kind.shapes(options.shape);
  const [only, ...others] = shapes.map(parseShape) as [BenchShape, ...BenchShape[]];
  const rows: Row[] = [];
  if (others.length === 0) {
    const backend = await chooseBackend(options.backend, options.precision);
    rows.push(await kind.measure(only, backend, options));
  } else {
    for (const shape of shapes) rows.push(measureApart(shape, options));
  }
  out(options.json ? JSON.stringify(rows, null, 1) : kind.report(rows));
}

/** A dense shape stands for itself and the routed ones that it is compared with; in a child it is measured alone. */
function comparedShapes({ shape, json }: BenchCommandOptions): string[] {
  const given = MEMORY.shapes(shape);
  const isChild = json && given.length === 1 && process.env[CHILD] !== undefined;
  return isChild ? given : given.flatMap((dense) => memoryShapes(dense));
}

/** Set for the processes that measure one shape each. */
const CHILD = 'MOD_BENCH_CHILD';

function trainSteps(
  { model, batchSequences }: BenchShape,
  { recorder, peakFlopsPerSecond, peakBytesPerSecond }: ChosenBackend,
  { steps, profile }: BenchCommandOptions,
) {
  const peak =
    peakFlopsPerSecond === null || peakBytesPerSecond === null
      ? null
      : { flopsPerSecond: peakFlopsPerSecond, bytesPerSecond: peakBytesPerSecond };
  return measureStep(model, { batchSequences, warmup: WARMUP_STEPS, steps, profile, recorder, peak });
}

/** Asked for after the measurement: the peak is that of all before. */
function placeOf(
  { name }: BenchShape,
  { name: backend, device, precision, peakMemoryBytes }: ChosenBackend,
): Measured {
  return { shape: name, backend, device, precision, peakMemoryBytes: peakMemoryBytes() };
}

/** Leaves what was measured for `mod plan`. A cache folder that cannot be written spoils no measurement. */
function remember(
  { shape, flopsPerSecond }: Measured & StepMeasurement,
  { name: backend, device, precision }: ChosenBackend,
  model: ModelConfig,
): void {
  const record: BenchRecord = {
    host: hostname(),
    backend,
    device,
    precision,
    shape,
    d_model: model.d_model,
    routed: model.routing !== null || model.experts !== null,
    flops_per_second: flopsPerSecond,
    measured_at: new Date().toISOString(),
  };
  try {
    addBenchRecord(benchRecordPath(), record);
  } catch (error) {
    process.stderr.write(`mod: not remembered for mod plan: ${messageOf(error)}\n`);
  }
}

function measureApart<Row>(shape: string, options: BenchCommandOptions): Row {
  const { backend, precision, steps, prompt, tokens } = options;
  const values = { shape, backend, precision, steps, prompt, tokens };
  const switches = ['profile', 'decode', 'memory'] as const;
  const printed = execFileSync(
    process.execPath,
    [
      ...process.execArgv,
      process.argv[1] as string,
      'bench',
      '--json',
      ...Object.entries(values).flatMap(([name, value]) => [`--${name}`, String(value)]),
      ...switches.flatMap((name) => (options[name] ? [`--${name}`] : [])),
    ],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, [CHILD]: '1' } },
  );
  const [row] = JSON.parse(printed) as [Row];
  return row;
}
