/** `mod bench`: measures model shapes on this machine: the time of a training step or of a decoded token, or memory. */

import { execFileSync } from 'node:child_process';
import { hostname } from 'node:os';
import { type ChosenBackend, chooseBackend } from '../backends/choose.js';
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';
import { checkCoordinates, LARGE_BASE, SMALL_BASE } from '../bench/coordinates.js';
import { measureDecode } from '../bench/decode.js';
import { memoryShapes, sizeOf } from '../bench/memory.js';
import { addBenchRecord, type BenchRecord, benchRecordPath } from '../bench/record.js';
import { coordinateReport, decodeReport, type Measured, memoryReport, stepReport } from '../bench/report.js';
import { type BenchShape, DEFAULT_SHAPES, parseShape } from '../bench/shape.js';
import { measureStep, type StepMeasurement } from '../bench/step.js';
import { InputError, messageOf } from '../errors.js';
import { jsonText } from '../files/numbers.js';
import type { ModelConfig } from '../model/config.js';

export interface BenchCommandOptions {
  shape: string[];
  steps: number;
  profile: boolean;
  decode: boolean;
  memory: boolean;
  coordinates: boolean;
  /** With --decode: number of prompt tokens, and of new tokens. */
  prompt: number;
  tokens: number;
  json: boolean;
  backend: RequestedBackend;
  precision: RequestedPrecision;
}

const DEFAULT_DECODE_SHAPES = [1, 64].flatMap((batch) =>
  ['', 'c0.125f2'].map((routing) => `d128l4t768b${batch}v256${routing}`),
);
const WARMUP_STEPS = 4;
const DECODE_REPETITIONS = 3;
const COORDINATE_STEPS = 30;
/** Two take two minutes on two cores; a GPU does six in the same time, which the deeper base needs. */
const COORDINATE_SEEDS = { small: [0, 1], large: [0, 1, 2, 3, 4, 5] };

interface Benchmark<Row extends Measured> {
  shapes(given: string[]): string[];
  measure(shape: BenchShape, backend: ChosenBackend, options: BenchCommandOptions): Promise<Row>;
  report(rows: Row[]): string;
}

const STEP: Benchmark<Measured & StepMeasurement> = {
  shapes: (given) => (given.length > 0 ? given : DEFAULT_SHAPES),
  measure: async (shape, backend, options) => {
    const row = { ...(await trainSteps(shape, backend, options)), ...describePlace(shape, backend) };
    storeRecord(row, backend, shape.model);
    return row;
  },
  report: stepReport,
};

const DECODE: Benchmark<Measured & Awaited<ReturnType<typeof measureDecode>>> = {
  shapes: (given) => (given.length > 0 ? given : DEFAULT_DECODE_SHAPES),
  measure: async (shape, backend, { prompt, tokens }) => {
    const { sequence_length: T } = shape.model;
    if (prompt + tokens > T) {
      throw new InputError(
        `--shape ${shape.name}: ${prompt} prompt tokens and ${tokens} new tokens exceed the sequence length ${T}`,
      );
    }
    const measured = await measureDecode(shape.model, {
      sequences: shape.batchSequences,
      promptTokens: prompt,
      newTokens: tokens,
      repetitions: DECODE_REPETITIONS,
      loops: backend.decodeLoops,
    });
    return { ...measured, ...describePlace(shape, backend) };
  },
  report: decodeReport,
};

const MEMORY: Benchmark<Measured & ReturnType<typeof sizeOf>> = {
  shapes: (given) => (given.length > 0 ? given : [DEFAULT_SHAPES[0] as string]),
  measure: async (shape, backend, options) => {
    await trainSteps(shape, backend, options);
    return { ...sizeOf(shape), ...describePlace(shape, backend) };
  },
  report: memoryReport,
};

/**
 * Measures each shape in a child process, since peak memory is per process; a single shape in this process.
 *
 * @returns false if the coordinate check has failed
 */
export async function benchCommand(
  options: BenchCommandOptions,
  out: (text: string) => void,
): Promise<boolean> {
  if (options.coordinates) return runCoordinates(options, out);
  if (options.decode) await run(DECODE, options, out);
  else if (options.memory) await run(MEMORY, { ...options, shape: comparedShapes(options) }, out);
  else await run(STEP, options, out);
  return true;
}

/** The coordinate check, of a base that fits the backend. */
async function runCoordinates(
  { backend, precision, json }: BenchCommandOptions,
  out: (text: string) => void,
): Promise<boolean> {
  const { recorder } = await chooseBackend(backend, precision);
  const size = recorder === null ? 'small' : 'large'; // only a GPU records steps
  const base = size === 'small' ? SMALL_BASE : LARGE_BASE;
  const seeds = COORDINATE_SEEDS[size];
  const check = await checkCoordinates({ base, steps: COORDINATE_STEPS, seeds, recorder });
  out(json ? jsonText({ base, ...check }, 1) : coordinateReport(base, check));
  return check.exponents.every(({ stable }) => stable !== false);
}

async function run<Row extends Measured>(
  benchmark: Benchmark<Row>,
  options: BenchCommandOptions,
  out: (text: string) => void,
): Promise<void> {
  const shapes = benchmark.shapes(options.shape);
  const [only, ...others] = shapes.map(parseShape) as [BenchShape, ...BenchShape[]];
  const rows: Row[] = [];
  if (others.length === 0) {
    const backend = await chooseBackend(options.backend, options.precision);
    rows.push(await benchmark.measure(only, backend, options));
  } else {
    for (const shape of shapes) rows.push(measureInChild(shape, options));
  }
  out(options.json ? jsonText(rows, 1) : benchmark.report(rows));
}

/** Each dense shape and the routed shapes to compare it with; in a child process only the given shape. */
function comparedShapes({ shape, json }: BenchCommandOptions): string[] {
  const given = MEMORY.shapes(shape);
  const isChild = json && given.length === 1 && process.env[CHILD] !== undefined;
  return isChild ? given : given.flatMap((dense) => memoryShapes(dense));
}

/** Environment variable of the child processes that measure one shape each. */
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

/** To be called after the measurement: the peak includes all earlier work of the process. */
function describePlace(
  { name }: BenchShape,
  { name: backend, device, precision, peakMemoryBytes }: ChosenBackend,
): Measured {
  return { shape: name, backend, device, precision, peakMemoryBytes: peakMemoryBytes() };
}

/** Stores the measured rate for `mod plan`. A cache folder that cannot be written only causes a warning. */
function storeRecord(
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
    process.stderr.write(`mod: the rate could not be stored for mod plan: ${messageOf(error)}\n`);
  }
}

function measureInChild<Row>(shape: string, options: BenchCommandOptions): Row {
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
