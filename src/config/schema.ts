/** The schema of a sweep file; the message of each check states what is allowed. */
import { z } from 'zod';
import { REQUESTED_BACKENDS } from '../backends/names.js';
import { REQUESTED_PRECISIONS } from '../backends/precisions.js';
import { TEXT_FIELD } from '../data/config.js';
import { BUILT_IN_TOKENIZERS, builtInVocabulary } from '../data/tokenizers.js';
import { TOKEN_WIDTHS } from '../files/guess.js';
import { ROUTER_NAMES } from '../model/config.js';
import { PARAMETRIZATIONS } from '../model/parametrization.js';
import { EXPERT_VARIANTS } from '../model/variants.js';
import { GATE_NAMES } from '../ops/gates.js';
import { KEEP_FINAL } from './checkpoint-policy.js';
import { WrittenNumber } from './document.js';
import { RateMultiple, rateMultiple } from './learning-rate.js';
import {
  CHINCHILLA_SHAPES,
  customShape,
  defaultHeads,
  type Shape,
  shapeNamed,
  shapeProblem,
} from './shapes.js';

/** The issue parameter with which a check over several keys describes what it found. */
export const FOUND = 'found';

const MAX_SIZE = 2 ** 20;
const MAX_LAYERS = 4096;
const MAX_EXPERTS = 1024;
/** File names have at most 255 bytes; run ids add to this. */
const LONGEST_NAME = 200;

const number = (allowed: string, accepts: (value: number) => boolean) =>
  z.custom<WrittenNumber>((found) => found instanceof WrittenNumber && accepts(found.value), {
    error: allowed,
  });

const integer = (min: number, max = Number.MAX_SAFE_INTEGER) =>
  number(
    max === Number.MAX_SAFE_INTEGER
      ? `a whole number of at least ${min}`
      : `a whole number from ${min} to ${max}`,
    (value) => Number.isSafeInteger(value) && value >= min && value <= max,
  );

const positive = number('a number above 0', (value) => value > 0 && Number.isFinite(value));
const nonNegative = number('a number of at least 0', (value) => value >= 0 && Number.isFinite(value));
const boolean = z.boolean({ error: 'true or false' });
const nonEmpty = (allowed: string) => z.string({ error: allowed }).min(1, { error: allowed });

const oneOf = <const T extends readonly string[]>(choices: T) =>
  z.enum(choices, { error: choices.join(', ') });

/** A single value is a list of one. */
const asList = (found: unknown) =>
  found === undefined || found === null || Array.isArray(found) ? found : [found];
const maybeEmptyList = <T extends z.ZodType>(item: T, of: string) =>
  z.preprocess(asList, z.array(item, { error: `a list of ${of}` }));
const list = <T extends z.ZodType>(item: T, of: string, wrapped: (found: unknown) => unknown = asList) =>
  z.preprocess(
    wrapped,
    z.array(item, { error: `a list of ${of}` }).min(1, { error: `a list of ${of} that is not empty` }),
  );
/** Of several spellings of one value the first: an axis has each value once. */
function distinct<Item extends 'auto' | WrittenNumber | RateMultiple>(values: readonly Item[]): Item[] {
  const seen = new Set<string>();
  return values.filter((item) => {
    const value =
      item instanceof RateMultiple
        ? `${item.value}x`
        : String(item instanceof WrittenNumber ? item.value : item);
    const isNew = !seen.has(value);
    seen.add(value);
    return isNew;
  });
}

function isMapping(found: unknown): found is Record<string, unknown> {
  return (
    typeof found === 'object' && found !== null && !Array.isArray(found) && !(found instanceof WrittenNumber)
  );
}

/** A mapping with only these keys; the message for another key lists them. */
function mapping<T extends z.ZodRawShape>(keys: T, allowed = `a mapping of ${Object.keys(keys).join(', ')}`) {
  const known = Object.keys(keys).join(', ');
  return z
    .custom<Record<string, unknown>>(isMapping, { error: allowed })
    .pipe(z.strictObject(keys, { error: known }));
}

const shapeNames = CHINCHILLA_SHAPES.map(({ name }) => name);
const SIZES = `a size of table A9 (${shapeNames.slice(0, 3).join(', ')}, ... ${shapeNames.at(-1)}) or {d_model, n_layers, n_heads, d_ff}`;

const namedShape = z
  .enum(shapeNames, { error: SIZES })
  .transform((name) => CHINCHILLA_SHAPES.find((shape) => shape.name === name) as Shape);

const customShapeMapping = mapping({
  d_model: integer(2, MAX_SIZE),
  n_layers: integer(1, MAX_LAYERS),
  n_heads: integer(1, MAX_SIZE).exactOptional(),
  d_ff: integer(1, MAX_SIZE).exactOptional(),
})
  .superRefine(({ d_model: { value: width }, n_heads }, context) => {
    if (defaultHeads(width) === null) {
      context.addIssue({
        code: 'custom',
        path: ['d_model'],
        message: 'an even number: rotary positions pair its halves',
      });
    } else if (n_heads !== undefined && width % (2 * n_heads.value) !== 0) {
      const message = `a number that divides d_model ${width} into heads of an even size`;
      context.addIssue({ code: 'custom', path: ['n_heads'], message });
    }
  })
  .transform(({ d_model, n_layers, n_heads, d_ff }) =>
    customShape(d_model.value, n_layers.value, n_heads?.value, d_ff?.value),
  );

const BASELINE =
  "a size, or the folder of a finished sweep whose optimal baseline's FLOPs per pass are matched";

/** One size per routing setting: the one whose FLOPs per pass are closest to a baseline's. */
const matchedSizes = mapping({
  match_flops: z
    .union([nonEmpty(BASELINE), customShapeMapping], { error: BASELINE })
    .superRefine((found, context) => {
      const problem = typeof found === 'string' ? shapeProblem(found) : null;
      if (problem === null) return;
      const params = { [FOUND]: `${found}, which is not a valid shape: ${problem}` };
      context.addIssue({ code: 'custom', message: BASELINE, params });
    })
    .transform((found) => (typeof found === 'string' ? (shapeNamed(found) ?? found) : found)),
});

const modelSizes = z.union(
  [
    z.literal('auto', { error: 'auto' }),
    list(z.union([namedShape, customShapeMapping], { error: SIZES }), 'sizes', (found) =>
      isMapping(found) && 'match_flops' in found ? found : asList(found),
    ),
    matchedSizes,
  ],
  { error: `auto, a list of sizes, each ${SIZES}, or {match_flops: a baseline}` },
);

const RATE = 'auto, a number above 0, or a multiple of the default such as 0.7x';
const multiple = z
  .custom<string>((found) => typeof found === 'string' && rateMultiple(found) !== null, { error: RATE })
  .transform((text) => rateMultiple(text) as RateMultiple);
const rate = z.union([z.literal('auto', { error: 'auto' }), positive, multiple], { error: RATE });
const learningRate = list(rate, 'learning rates').transform(distinct);

const globs = list(nonEmpty('a path or glob, or a list of them'), 'paths or globs');

const data = mapping(
  {
    text: globs.exactOptional(),
    heldout_text: globs.exactOptional(),
    train: globs.exactOptional(),
    heldout: globs.exactOptional(),
    vocab_size: integer(1, 2 ** 31).exactOptional(),
    tokenizer: nonEmpty(`${BUILT_IN_TOKENIZERS.join(', ')}, or the path of a tokenizer.json`).exactOptional(),
    token_bytes: number(TOKEN_WIDTHS.join(', '), (value) =>
      TOKEN_WIDTHS.some((width) => width === value),
    ).exactOptional(),
    field: nonEmpty('the name of a field').exactOptional(),
    unchecked: boolean.exactOptional(),
  },
  'either {text, heldout_text, tokenizer: bytes} or {train, heldout, vocab_size}, or the folder of mod data prepare',
)
  .superRefine((found, context) => {
    const issue = (key: string | null, message: string, foundText?: string) =>
      context.addIssue({
        code: 'custom',
        path: key === null ? [] : [key],
        message,
        ...(foundText === undefined ? {} : { params: { [FOUND]: foundText } }),
      });
    const isText = found.text !== undefined || found.heldout_text !== undefined;
    const isTokens = found.train !== undefined || found.heldout !== undefined;
    if (isText === isTokens) {
      const foundText = isText ? 'both text and token files' : 'neither text nor token files';
      issue(null, 'either text and heldout_text, or train and heldout', foundText);
      return;
    }
    for (const key of isText ? (['text', 'heldout_text'] as const) : (['train', 'heldout'] as const)) {
      if (found[key] === undefined) issue(key, 'a path or glob, or a list of them');
    }
    const tokenizer = found.tokenizer ?? (isText ? 'bytes' : null);
    const known = tokenizer === null ? null : builtInVocabulary(tokenizer);
    const size = found.vocab_size?.value;
    if (isText && tokenizer !== 'bytes') {
      issue(
        'tokenizer',
        'bytes; for another tokenizer convert the text to token files with mod data prepare',
      );
    }
    if (isText && found.token_bytes !== undefined)
      issue('token_bytes', 'only with token files; text files are read as bytes');
    if (isTokens && found.field !== undefined) issue('field', 'only with text files');
    if (isTokens && known === null && size === undefined)
      issue('vocab_size', 'the number of tokens of the tokenizer');
    if (known !== null && size !== undefined && size < known)
      issue('vocab_size', `at least ${known} for ${tokenizer}`);
  })
  .transform((found) => {
    const vocab_size = found.vocab_size?.value ?? (builtInVocabulary(found.tokenizer ?? 'bytes') as number);
    // A key that is left out at its default leaves the config hashes of earlier runs as they are.
    const unchecked = found.unchecked === true ? { unchecked: true as const } : {};
    if (found.text !== undefined) {
      const { text, heldout_text = [], field = TEXT_FIELD } = found;
      const named = field === TEXT_FIELD ? {} : { field };
      return { text, heldout_text, tokenizer: 'bytes', vocab_size, ...named, ...unchecked };
    }
    return {
      train: found.train ?? [],
      heldout: found.heldout ?? [],
      vocab_size,
      tokenizer: found.tokenizer ?? null,
      token_bytes: TOKEN_WIDTHS.find((width) => width === found.token_bytes?.value) ?? 2,
      ...unchecked,
    };
  });

const capacity = number('a number above 0 and at most 1', (value) => value > 0 && value <= 1);

/** The keys that a grid may override: all except the name and the grids. */
const keys = {
  flop_budgets: list(positive, 'numbers of FLOPs').transform(distinct).exactOptional(),
  baseline: boolean.exactOptional(),
  // An empty list: only the dense model.
  capacities: maybeEmptyList(capacity, 'numbers above 0 and at most 1').transform(distinct).exactOptional(),
  routing_frequencies: list(integer(1), 'whole numbers').transform(distinct).exactOptional(),
  routers: list(oneOf(ROUTER_NAMES), `routers: ${ROUTER_NAMES.join(', ')}`).exactOptional(),
  gates: list(oneOf(GATE_NAMES), `gates: ${GATE_NAMES.join(', ')}`).exactOptional(),
  // An empty list: no experts.
  expert_variants: maybeEmptyList(oneOf(EXPERT_VARIANTS), EXPERT_VARIANTS.join(', ')).exactOptional(),
  model_sizes: modelSizes.exactOptional(),
  sequence_length: integer(1, MAX_SIZE).exactOptional(),
  batch_sequences: integer(1, MAX_SIZE).exactOptional(),
  seeds: list(integer(0), 'whole numbers').transform(distinct).exactOptional(),
  tie_embeddings: boolean.exactOptional(),
  data: data.exactOptional(),
  routing: mapping({
    predictor_hidden: integer(0, MAX_SIZE).exactOptional(),
    aux_loss_weight: nonNegative.exactOptional(),
  }).exactOptional(),
  experts: mapping({
    count: integer(1, MAX_EXPERTS).exactOptional(),
    capacity_factor: positive.exactOptional(),
    balance_loss_weight: nonNegative.exactOptional(),
    no_ops: integer(1, MAX_EXPERTS).exactOptional(),
    balance_no_ops: boolean.exactOptional(),
  }).exactOptional(),
  training: mapping({
    learning_rate: learningRate.exactOptional(),
    weight_decay: nonNegative.exactOptional(),
    gradient_clip: positive.exactOptional(),
    micro_batch_sequences: z
      .union([z.null(), integer(1)], { error: 'null (automatic) or a whole number of at least 1' })
      .exactOptional(),
    deterministic: boolean.exactOptional(),
    parametrization: oneOf(PARAMETRIZATIONS).exactOptional(),
    base: mapping({
      d_model: integer(1, MAX_SIZE).exactOptional(),
      n_layers: integer(1, MAX_LAYERS).exactOptional(),
      head_size: integer(1, MAX_SIZE).exactOptional(),
      batch_tokens: integer(1).exactOptional(),
    }).exactOptional(),
  }).exactOptional(),
  evaluation: mapping({
    sequences: integer(1).exactOptional(),
    every_steps: integer(0).exactOptional(),
    autoregressive: boolean.exactOptional(),
  }).exactOptional(),
  checkpoint: mapping({
    minutes: nonNegative.exactOptional(),
    steps: integer(0).exactOptional(),
    keep: integer(1, 1000).exactOptional(),
    keep_final: oneOf(KEEP_FINAL).exactOptional(),
  }).exactOptional(),
  backend: oneOf(REQUESTED_BACKENDS).exactOptional(),
  precision: oneOf(REQUESTED_PRECISIONS).exactOptional(),
};

const NAME =
  "a name for the sweep's folder: letters, digits, dots, dashes and underscores, the first a letter or digit";

// YAML parses `name: 6e18` as a number.
const isName = (found: unknown) =>
  (typeof found === 'string' || found instanceof WrittenNumber) &&
  /^[\p{L}\d][\p{L}\d._-]*$/u.test(found instanceof WrittenNumber ? found.text : found);
const name = z
  .custom<string | WrittenNumber>(isName, { error: NAME })
  .transform((found) => (found instanceof WrittenNumber ? found.text : found))
  .refine((found) => Buffer.byteLength(found) <= LONGEST_NAME, {
    error: `a name of at most ${LONGEST_NAME} bytes, valid as a file name`,
  });

const grid = mapping(keys, 'a mapping of keys that override those of the top level');

export const sweepSchema = mapping(
  {
    name,
    ...keys,
    on_finish: list(nonEmpty('a program or an argument'), 'a program and its arguments').exactOptional(),
    grids: z.array(grid, { error: 'a list of mappings' }).exactOptional(),
  },
  'a mapping of keys to values: name, flop_budgets, data, ...',
);

/** The overriding keys of one entry of `grids`, or the top level's. */
export type GridKeys = z.output<typeof grid>;
/** A sweep file as written, without defaults. */
export type WrittenSweep = z.output<typeof sweepSchema>;

/** Every key of a sweep file outside `grids`, as a path: `training.learning_rate`. */
export const KEY_PATHS: readonly string[] = Object.entries(keys).flatMap(([key, schema]) => [
  key,
  ...subkeysOf(schema).map((sub) => `${key}.${sub}`),
]);

/** The keys of a mapping; none for a schema of another kind. */
function subkeysOf(schema: z.core.$ZodType): string[] {
  if (schema instanceof z.ZodExactOptional) return subkeysOf(schema.unwrap());
  if (schema instanceof z.ZodObject) return Object.keys(schema.shape);
  return schema instanceof z.ZodPipe ? [schema.in, schema.out].flatMap(subkeysOf) : [];
}
