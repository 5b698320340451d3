/** Parses model shapes of `mod bench --shape`: d128l4t256b8v256, plus c0.125f2 for routed blocks, e8x1.25 for experts. */
import { InputError } from '../errors.js';
import type { ModelConfig } from '../model/config.js';
import { routingProblems } from '../model/feasible.js';

/** What `mod bench` times without --shape: a dense model and the paper's routed one of the same shape. */
export const DEFAULT_SHAPES = ['d128l4t256b8v256', 'd128l4t256b8v256c0.125f2'];

export interface BenchShape {
  name: string;
  model: ModelConfig;
  batchSequences: number;
}

const KEYS = {
  d: 'd_model',
  l: 'layers',
  h: 'heads',
  f: 'routing frequency',
  t: 'tokens per sequence',
  b: 'sequences per batch',
  v: 'vocabulary',
  c: 'capacity',
  e: 'experts',
  x: 'capacity factor of experts',
  n: 'no-op experts',
} as const;

const EXAMPLE =
  'd128l4t256b8v256, plus c0.125f2 for a routed model, plus e8x1.25 (e8x1.25n8 with no-ops) for experts';
/** Head size of a shape without `h`. */
const HEAD_SIZE = 64;
const PREDICTOR_HIDDEN = 64;
const CAPACITY_FACTOR = 1.25;
const BALANCE_LOSS_WEIGHT = 0.01;

/** Parses a shape; `h` defaults to heads of size 64. @throws InputError if the shape is invalid */
export function parseShape(text: string): BenchShape {
  const fail = (problem: string): never => {
    throw new InputError(`--shape ${text}: ${problem}; write ${EXAMPLE}`);
  };
  const values = new Map<string, number>();
  const rest = text.replace(/([a-z])(\d+(?:\.\d+)?)/g, (_, key: string, number: string) => {
    if (!(key in KEYS) || values.has(key)) fail(`${key}${number} is unknown or repeated`);
    values.set(key, Number(number));
    return '';
  });
  if (rest !== '') fail(`cannot parse '${rest}'`);
  const required = (key: keyof typeof KEYS): number =>
    values.get(key) ?? fail(`${KEYS[key]} (${key}) is missing`);
  const D = required('d');
  const heads = values.get('h') ?? Math.max(1, Math.round(D / HEAD_SIZE));
  if (D % (2 * heads) !== 0) fail(`${heads} heads do not divide d_model ${D} into heads of an even size`);
  const capacity = values.get('c');
  const frequency = values.get('f');
  if ((capacity === undefined) !== (frequency === undefined))
    fail('c (capacity) and f (routing frequency) must be given together');
  if (capacity !== undefined && !(capacity > 0 && capacity <= 1))
    fail(`capacity ${capacity} is not in (0, 1]`);
  if ((values.has('x') || values.has('n')) && !values.has('e'))
    fail('x (capacity factor) and n (no-ops) require e (experts)');
  if (values.get('x') === 0) fail('the capacity factor must be above 0');
  const isFraction = (key: string) => key === 'c' || key === 'x';
  const notWhole = [...values].find(
    ([key, value]) => !isFraction(key) && !(Number.isInteger(value) && value > 0),
  );
  if (notWhole !== undefined)
    fail(`${KEYS[notWhole[0] as keyof typeof KEYS]} must be a whole number above 0`);
  const model: ModelConfig = {
    vocab_size: required('v'),
    d_model: D,
    n_layers: required('l'),
    n_heads: heads,
    d_ff: 4 * D,
    sequence_length: required('t'),
    tie_embeddings: true,
    routing:
      capacity === undefined || frequency === undefined
        ? null
        : {
            frequency,
            capacity,
            router: 'learned',
            gate: 'raw',
            aux_loss_weight: 0,
            predictor_hidden: PREDICTOR_HIDDEN,
          },
    experts: values.has('e')
      ? {
          count: required('e'),
          no_ops: values.get('n') ?? 0,
          capacity_factor: values.get('x') ?? CAPACITY_FACTOR,
          balance_loss_weight: BALANCE_LOSS_WEIGHT,
          balance_no_ops: true,
        }
      : null,
  };
  const problems = routingProblems(model);
  if (problems.length > 0) fail(problems.join('; '));
  return { name: text, model, batchSequences: required('b') };
}
