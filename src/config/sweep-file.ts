/** Reads a sweep file: YAML to validated products of settings, completed with defaults. */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';
import type { DataConfig } from '../data/config.js';
import { isFile } from '../data/files.js';
import { tokenizerJsonVocabSize } from '../data/tokenizer-json.js';
import { isBuiltIn } from '../data/tokenizers.js';
import { InputError, messageOf } from '../errors.js';
import { otherFormat } from '../files/identify.js';
import type { RouterName } from '../model/config.js';
import { type BaseShape, DEFAULT_BASE, type ParametrizationName } from '../model/parametrization.js';
import type { ExpertVariant } from '../model/variants.js';
import type { Gate } from '../ops/gates.js';
import type { CheckpointPolicy } from './checkpoint-policy.js';
import { keyText, type Path, type Problem, WrittenNumber, YamlFile } from './document.js';
import { RateMultiple, type WrittenRate } from './learning-rate.js';
import { problemsOf } from './messages.js';
import { completeData, type DataProblem, dataPlaces, preparedProblems } from './prepared-data.js';
import { type GridKeys, sweepSchema, type WrittenSweep } from './schema.js';
import type { Shape } from './shapes.js';

/** Sizes matched in FLOPs per pass to a shape or to the optimal baseline of a finished sweep. */
export interface MatchedSizes {
  /** A string is the folder of a sweep, relative to the file. */
  match_flops: Shape | string;
}

/** Settings in which every list is an axis; the runs are the product of the lists. Keys are those of the file. */
export interface Product {
  flop_budgets: WrittenNumber[];
  baseline: boolean;
  capacities: WrittenNumber[];
  routing_frequencies: WrittenNumber[];
  routers: RouterName[];
  gates: Gate[];
  expert_variants: ExpertVariant[];
  model_sizes: 'auto' | Shape[] | MatchedSizes;
  sequence_length: WrittenNumber;
  batch_sequences: WrittenNumber;
  seeds: WrittenNumber[];
  tie_embeddings: boolean;
  data: DataConfig;
  routing: { predictor_hidden: WrittenNumber; aux_loss_weight: WrittenNumber };
  experts: {
    count: WrittenNumber;
    capacity_factor: WrittenNumber;
    balance_loss_weight: WrittenNumber;
    /** Null: the number of experts. */
    no_ops: WrittenNumber | null;
    balance_no_ops: boolean;
  };
  training: {
    learning_rate: WrittenRate[];
    weight_decay: WrittenNumber;
    gradient_clip: WrittenNumber;
    micro_batch_sequences: WrittenNumber | null;
    deterministic: boolean;
    parametrization: ParametrizationName;
    /** The shape and batch at which the hyperparameters of `complete` are tuned. */
    base: Record<keyof BaseShape, WrittenNumber>;
  };
  evaluation: { sequences: WrittenNumber; every_steps: WrittenNumber; autoregressive: boolean };
  checkpoint: { minutes: WrittenNumber; steps: WrittenNumber; keep: WrittenNumber } & Pick<
    CheckpointPolicy,
    'keep_final'
  >;
  backend: RequestedBackend;
  precision: RequestedPrecision;
}

/** The top level of a file: budgets and data may be in the grids instead. */
export type TopLevel = Omit<Product, 'flop_budgets' | 'data'> &
  Partial<Pick<Product, 'flop_budgets' | 'data'>>;

export interface SweepFile {
  /** As given on the command line. */
  path: string;
  /** The `key=value` texts of --set, which replaced values of the file. */
  settings: readonly string[];
  /** The absolute folder of the file; its paths and globs are relative to it. */
  dir: string;
  name: string;
  /** Run ids list the keys that differ from the top level. */
  top: TopLevel;
  /** One per entry of `grids`, or the top level alone; the plan is their union. */
  products: Product[];
  /** A program and its arguments, run at the end of a sweep; null: none. */
  onFinish: string[] | null;
  /** file:line:column of the budgets, for errors found while planning. */
  budgetsAt: string;
}

const written = (value: number) => new WrittenNumber(value, String(value));

const DEFAULTS: Omit<Product, 'flop_budgets' | 'data'> = {
  baseline: true,
  capacities: [],
  routing_frequencies: [written(2)],
  routers: ['learned'],
  gates: ['raw'],
  expert_variants: [],
  model_sizes: 'auto',
  sequence_length: written(2048),
  batch_sequences: written(128),
  seeds: [written(0)],
  tie_embeddings: true,
  routing: { predictor_hidden: written(64), aux_loss_weight: written(0) },
  experts: {
    count: written(8),
    capacity_factor: written(1.25),
    balance_loss_weight: written(0.01),
    no_ops: null,
    balance_no_ops: true,
  },
  training: {
    learning_rate: ['auto'],
    weight_decay: written(0.1),
    gradient_clip: written(1),
    micro_batch_sequences: null,
    deterministic: false,
    parametrization: 'standard',
    base: {
      d_model: written(DEFAULT_BASE.d_model),
      n_layers: written(DEFAULT_BASE.n_layers),
      head_size: written(DEFAULT_BASE.head_size),
      batch_tokens: written(DEFAULT_BASE.batch_tokens),
    },
  },
  evaluation: { sequences: written(1024), every_steps: written(0), autoregressive: true },
  checkpoint: { minutes: written(10), steps: written(0), keep: written(2), keep_final: 'all' },
  backend: 'auto',
  precision: 'auto',
};

/**
 * Reads and validates a sweep file. Of the files it names, only a tokenizer.json and the prepare.json beside token files are read,
 * if they exist; data files are not.
 *
 * @param settings `key=value` texts that replace values of the file's top level, as if they stood there
 * @throws InputError with file:line:column, the key, what was found and what is allowed, one line per problem
 */
export function loadSweepFile(path: string, settings: readonly string[] = []): SweepFile {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new InputError(`${path}: cannot be read (${messageOf(error)})`);
  }
  const other = text === '' ? null : otherFormat(path, true);
  if (other !== null) throw new InputError(`${path}: not a sweep file: ${other}`);
  return parseSweepFile(path, text, settings);
}

/** Like `loadSweepFile`, for text that has been read. */
export function parseSweepFile(path: string, text: string, settings: readonly string[] = []): SweepFile {
  const yaml = new YamlFile(path, text, settings);
  const dir = dirname(resolve(path));
  const unprepared = dataPlaces(yaml.value).flatMap(({ holder, at }) =>
    located(yaml, at, completeData(holder, dir)),
  );
  if (unprepared.length > 0) throw yaml.error(unprepared);
  const result = sweepSchema.safeParse(yaml.value);
  if (!result.success) throw yaml.error(problemsOf(result.error.issues, yaml));
  const { name, grids = [], on_finish = null, ...top } = result.data;
  const problems = [top, ...grids].flatMap(({ data }, i) =>
    data === undefined
      ? []
      : vocabularyProblems(yaml, data, i === 0 ? ['data'] : ['grids', i - 1, 'data'], dir),
  );
  if (problems.length > 0) throw yaml.error(problems);
  const products =
    grids.length === 0
      ? [completeProduct(yaml, top, {}, null)]
      : grids.map((grid, i) => completeProduct(yaml, top, grid, i));
  return {
    path,
    settings,
    dir,
    name,
    top: withDefaults(top),
    products,
    onFinish: on_finish,
    budgetsAt: yaml.at(yaml.keyOffset(['flop_budgets'])),
  };
}

/** Problems of keys of `data` with their places in the file. */
function located(yaml: YamlFile, at: Path, problems: readonly DataProblem[]): Problem[] {
  return problems.map(({ key, text }) => {
    const path = key === '' ? at : [...at, key];
    return { offset: yaml.valueOffset(path), text: `${keyText(path)}: ${text}` };
  });
}

/** Checks, before the data is read, that the vocabulary includes all tokens of the tokenizer. */
function vocabularyProblems(yaml: YamlFile, data: DataConfig, at: Path, dir: string): Problem[] {
  const { tokenizer, vocab_size } = data;
  const prepared = preparedProblems(data, dir);
  if (prepared.length > 0) return located(yaml, at, prepared);
  if (tokenizer === null || isBuiltIn(tokenizer) || !isFile(resolve(dir, tokenizer))) return [];
  const problem = (key: string, text: string) => located(yaml, at, [{ key, text }]);
  let tokens: number;
  try {
    tokens = tokenizerJsonVocabSize(resolve(dir, tokenizer));
  } catch (error) {
    return problem('tokenizer', messageOf(error));
  }
  if (tokens <= vocab_size) return [];
  return problem(
    'vocab_size',
    `found ${vocab_size}; allowed: at least ${tokens}, the tokens of ${tokenizer}`,
  );
}

type Top = Omit<WrittenSweep, 'name' | 'grids' | 'on_finish'>;

function withDefaults(top: GridKeys, grid: GridKeys = {}): TopLevel {
  return {
    ...DEFAULTS,
    ...top,
    ...grid,
    routing: { ...DEFAULTS.routing, ...top.routing, ...grid.routing },
    experts: { ...DEFAULTS.experts, ...top.experts, ...grid.experts },
    training: {
      ...DEFAULTS.training,
      ...top.training,
      ...grid.training,
      base: { ...DEFAULTS.training.base, ...top.training?.base, ...grid.training?.base },
    },
    evaluation: { ...DEFAULTS.evaluation, ...top.evaluation, ...grid.evaluation },
    checkpoint: { ...DEFAULTS.checkpoint, ...top.checkpoint, ...grid.checkpoint },
  };
}

/** A product with all keys; `index` is that of its grid, null for the top level. */
function completeProduct(yaml: YamlFile, top: Top, grid: GridKeys, index: number | null): Product {
  const { flop_budgets, data, ...rest } = withDefaults(top, grid);
  const offset = yaml.valueOffset(index === null ? [] : ['grids', index]);
  const problem = (key: string, text: string) => {
    const path = index === null ? [key] : ['grids', index, key];
    return yaml.error([{ offset, text: `${keyText(path)}: ${text}` }]);
  };
  const here = index === null ? '' : ', here or at the top level';
  if (flop_budgets === undefined)
    throw problem('flop_budgets', `missing; needed: a list of numbers of FLOPs${here}`);
  if (data === undefined) throw problem('data', `missing; needed: where the tokens come from${here}`);
  const { baseline, capacities, expert_variants } = rest;
  if (!baseline && capacities.length === 0 && expert_variants.length === 0) {
    throw problem(
      'capacities',
      'found none, and baseline: false; needed: a capacity, expert variants, or the baseline',
    );
  }
  if (expert_variants.includes('mode-staged') && capacities.length === 0) {
    throw problem(
      'expert_variants',
      'found mode-staged, and no capacities; needed: the capacities of its routed blocks',
    );
  }
  const { learning_rate, parametrization } = rest.training;
  const multiple = learning_rate.find((rate) => rate instanceof RateMultiple);
  if (parametrization === 'standard' && multiple !== undefined) {
    throw problem(
      'training.learning_rate',
      `found ${multiple.text}; a multiple needs parametrization: complete, under standard rates are numbers`,
    );
  }
  return { flop_budgets, data, ...rest };
}
