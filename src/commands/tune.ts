/** `mod tune`: finds the learning rate of a sweep file's kinds of models at the base shape. */
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';
import { type RateMultiple, rateMultiple } from '../config/learning-rate.js';
import { loadSweepFile } from '../config/sweep-file.js';
import { InputError } from '../errors.js';
import { counted, lossText, table } from '../format.js';
import type { BaseShape } from '../model/parametrization.js';
import { tuningBase, tuningSweep } from '../plan/tuning.js';
import { commonRate, infeasibleKinds, type TunedKind, tuneKinds } from '../report/tuning.js';
import { significant, withInterval } from '../report/words.js';
import { loadRuns } from '../results/load.js';
import type { SweepOutcome } from '../sweep/sweep.js';
import { trainSweep } from './sweep.js';

/** A factor of four around the default rate, by about √2. */
export const DEFAULT_RATES: readonly string[] = ['0.5x', '0.7x', '1x', '1.4x', '2x'];
/** A parabola has three coefficients. */
const LEAST_RATES = 3;
/** Rates to add beyond an edge, as factors of the rate there. */
const BEYOND = [Math.SQRT2, 2];

export interface TuneCommandOptions {
  rates: readonly string[];
  /** FLOPs of each run; undefined: 20 tokens per parameter of the dense base shape. */
  budget: number | undefined;
  jobs: number | 'auto';
  /** As in `mod sweep`. */
  shareGpus: boolean;
  maxHours: number | undefined;
  wholeRuns: boolean;
  set: readonly string[];
  resultsDir: string;
  backend: RequestedBackend;
  precision: RequestedPrecision;
  json: boolean;
}

/** The output of --json. */
export interface Tuning {
  /** Folder of the sweep. */
  sweep: string;
  base: BaseShape;
  kinds: TunedKind[];
  /** Kinds that cannot be trained at the base shape. */
  not_feasible: { kind: string; reason: string }[];
  /** The rate for all kinds, `0.85x`; null before the first run has ended. */
  learning_rate: string | null;
  /** Whether it is in every interval that is known. */
  suits_all_kinds: boolean;
  /** Number of runs that have not ended: the result is preliminary. */
  runs_left: number;
  /** The keys to paste into the sweep file; null with learning_rate. */
  yaml: string | null;
}

/**
 * Trains the sweep of rates, as `mod sweep` does, and prints the best multiple of each kind with the YAML to paste. Diverged
 * runs are not failures: they show where training breaks.
 *
 * @throws InputError for fewer than three rates, or a base that is no shape
 */
export async function tuneCommand(
  configPath: string,
  options: TuneCommandOptions,
  io: { program: string; times: boolean; out: (text: string) => void; err: (text: string) => void },
): Promise<SweepOutcome> {
  const written = loadSweepFile(configPath, options.set);
  const rates = ratesOf(options.rates);
  const file = tuningSweep(written, { rates, budget: options.budget ?? null });
  const outcome = await trainSweep(
    file,
    {
      ...options,
      program: io.program,
      times: io.times,
      // Standard output is for the result.
      out: options.json ? process.stderr : process.stdout,
      only: [],
      configHashes: [],
      shard: undefined,
      retry: false,
      acceptDiverged: true,
      quiet: false,
    },
    io.err,
  );
  const tuning = tuningOf(outcome.folder, tuningBase(written));
  io.out(options.json ? JSON.stringify(tuning, null, 1) : `\n${tuningText(tuning, configPath)}`);
  return outcome;
}

function ratesOf(texts: readonly string[]): RateMultiple[] {
  const rates = texts.map((text) => {
    const rate = rateMultiple(text);
    if (rate === null)
      throw new InputError(`--rates ${text}: expected a multiple of the default, such as 0.7x`);
    return rate;
  });
  const distinct = new Map(rates.map((rate) => [rate.value, rate]));
  if (distinct.size < LEAST_RATES) {
    throw new InputError(
      `--rates: found ${distinct.size}; a parabola requires at least ${LEAST_RATES} rates`,
    );
  }
  return [...distinct.values()].sort((a, b) => a.value - b.value);
}

export function tuningOf(sweep: string, base: BaseShape): Tuning {
  const runs = loadRuns([sweep]);
  const kinds = tuneKinds(runs.filter(({ row }) => row.status !== 'skipped'));
  const common = commonRate(kinds);
  const learning_rate = common && multipleText(common.multiple);
  return {
    sweep,
    base,
    kinds,
    not_feasible: infeasibleKinds(runs),
    learning_rate,
    suits_all_kinds: common?.suitsAll ?? false,
    runs_left: kinds.flatMap(({ rates }) => rates).reduce((sum, { left }) => sum + left, 0),
    yaml: learning_rate && yamlOf(base, learning_rate),
  };
}

const multipleText = (multiple: number) => `${Number(multiple.toPrecision(2))}x`;

function yamlOf({ d_model, n_layers, head_size, batch_tokens }: BaseShape, learningRate: string): string {
  return [
    'training:',
    '  parametrization: complete',
    `  base: { d_model: ${d_model}, n_layers: ${n_layers}, head_size: ${head_size}, batch_tokens: ${batch_tokens} }`,
    `  learning_rate: ${learningRate}`,
  ].join('\n');
}

/** The losses by rate, one sentence for each kind, and the YAML. */
export function tuningText(tuning: Tuning, configPath: string): string {
  const { kinds, not_feasible, runs_left, suits_all_kinds, yaml } = tuning;
  const multiples = [...new Set(kinds.flatMap(({ rates }) => rates.map(({ multiple }) => multiple)))];
  multiples.sort((a, b) => a - b);
  const rows = kinds.map(({ kind, rates }) => [
    kind,
    ...multiples.map((multiple) => {
      const rate = rates.find((one) => one.multiple === multiple);
      if (rate === undefined) return '-';
      const loss = rate.loss === null && rate.breaks ? 'diverged' : lossText(rate.loss);
      return rate.breaks && rate.loss !== null ? `(${loss})` : loss;
    }),
  ]);
  const losses = table(['held-out loss', ...multiples.map((multiple) => `${multiple}x`)], rows);
  const broken = kinds.some(({ rates }) => rates.some(({ breaks }) => breaks));
  const left =
    runs_left === 0
      ? []
      : [
          `${counted(runs_left, 'run')} not done: the result is preliminary. Run the command again to resume.`,
        ];
  const more = ratesToAdd(kinds, multiples);
  return [
    ...left,
    losses,
    ...(broken
      ? ['Rates in parentheses, and those that diverged, are left out of the fit: training breaks there.']
      : []),
    [
      ...kinds.map(sentenceOf),
      ...not_feasible.map(({ kind, reason }) => `${kind}: cannot be trained at the base shape: ${reason}`),
    ].join('\n'),
    ...(more === null
      ? []
      : [`More rates: mod tune ${configPath} --rates ${more.map((one) => `${one}x`).join(' ')}`]),
    ...(yaml === null ? [] : [[...yamlNotes(kinds, suits_all_kinds), yaml].join('\n')]),
  ].join('\n\n');
}

/** Comments above the YAML: why its rate may not be the best. */
function yamlNotes(kinds: readonly TunedKind[], suitsAll: boolean): string[] {
  const isSettled = kinds.every(({ optimum }) => optimum === 'between');
  return [
    ...(isSettled ? [] : ['# Preliminary: not every optimum is between the rates that were tried.']),
    ...(suitsAll
      ? []
      : [
          '# The best rates of the kinds differ: this is their mean. Grids with a training.learning_rate each give every kind its own.',
        ]),
  ];
}

function sentenceOf({ kind, optimum, best, interval, rates }: TunedKind): string {
  const tried = rates.filter(({ loss }) => loss !== null);
  switch (optimum) {
    case 'between':
      return `${kind}: best at ${withInterval(best as number, interval, significant)} times the default rate${interval === null ? ', interval unknown: use more seeds' : ''}`;
    case 'lowest':
    case 'highest': {
      const above = rates.find(({ multiple, breaks }) => breaks && multiple > (best as number));
      return optimum === 'highest' && above !== undefined
        ? `${kind}: the optimum is at the edge of stable training, between ${best}x and ${above.multiple}x: try rates between them`
        : `${kind}: the optimum is at the edge, at or ${optimum === 'lowest' ? 'below the lowest' : 'above the highest'} rate, ${best}x: try ${optimum === 'lowest' ? 'lower' : 'higher'} rates`;
    }
    case 'unclear':
      return `${kind}: the losses show no optimum, the lowest is at ${best}x: use more seeds or a wider range of rates`;
    case 'too-few':
      return `${kind}: ${counted(tried.length, 'rate')} with a loss, ${LEAST_RATES} stable ones are required`;
    default:
      return optimum satisfies never;
  }
}

/** The rates of a call that settles the kinds whose optimum is at an edge; null if there are none. */
function ratesToAdd(kinds: readonly TunedKind[], tried: readonly number[]): number[] | null {
  const added = kinds.flatMap(({ optimum, best, rates }) => {
    if (best === null) return [];
    if (optimum === 'lowest') return BEYOND.map((factor) => best / factor);
    if (optimum !== 'highest') return [];
    const above = rates.find(({ multiple, breaks }) => breaks && multiple > best);
    return above === undefined ? BEYOND.map((factor) => best * factor) : [Math.sqrt(best * above.multiple)];
  });
  const rounded = added.map((rate) => Number(rate.toPrecision(2)));
  return added.length === 0 ? null : [...new Set([...tried, ...rounded])].sort((a, b) => a - b);
}
