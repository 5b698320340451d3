/** The sweep that tunes the learning rate of a sweep file: the file's kinds of models at the base shape, at several rates. */
import { WrittenNumber } from '../config/document.js';
import type { RateMultiple } from '../config/learning-rate.js';
import { customShape, shapeProblem } from '../config/shapes.js';
import type { Product, SweepFile, TopLevel } from '../config/sweep-file.js';
import { InputError } from '../errors.js';
import { canonicalJson } from '../files/canonical.js';
import { flopsPerPass } from '../model/flops.js';
import { parameterCounts } from '../model/parameter-count.js';
import type { BaseShape } from '../model/parametrization.js';
import { baseOf, modelOf } from './model-of.js';

export interface TuningOptions {
  /** Multiples of the default rate of `complete`. */
  rates: readonly RateMultiple[];
  /** FLOPs of each run; null: 20 tokens per parameter of the dense base shape. */
  budget: number | null;
}

/** Compute-optimal for a dense model (Hoffmann et al. 2022). */
const TOKENS_PER_PARAMETER = 20;

/** The base of a file under `complete`, whatever its parametrization: at the base shape `standard` is the same. */
export function tuningBase(file: SweepFile): BaseShape {
  const bases = file.products.map((product) => baseOf(underComplete(product)) as BaseShape);
  const [base] = bases as [BaseShape];
  if (new Set(bases.map(canonicalJson)).size > 1) {
    throw new InputError(`${file.path}: grids with several values of training.base; mod tune requires one`);
  }
  const { d_model, head_size } = base;
  const heads = d_model / head_size;
  const problem = Number.isInteger(heads)
    ? shapeProblem(`d${d_model}l${base.n_layers}h${heads}`)
    : `head_size ${head_size} does not divide d_model ${d_model}`;
  if (problem !== null) throw new InputError(`${file.path}: training.base: ${problem}`);
  return base;
}

/**
 * A sweep named `NAME-tune`, with the settings, data and seeds of the file. Model sizes, budgets, batch and learning rates are
 * replaced: the base shape and batch, one budget, and `rates`. It is trained and resumed like any sweep.
 *
 * @throws InputError for a base that is no shape, or several bases
 */
export function tuningSweep(file: SweepFile, { rates, budget }: TuningOptions): SweepFile {
  const base = tuningBase(file);
  const products = file.products.map((product): Product => {
    const tuned = atBase(product, base, rates);
    return { ...tuned, flop_budgets: [writtenFlops(budget ?? usualBudget(tuned))] };
  });
  return {
    ...file,
    name: `${file.name}-tune`,
    top: atBase(file.top, base, rates),
    products,
    onFinish: null,
    budgetsAt: `${file.path}, mod tune`,
  };
}

function underComplete<T extends TopLevel>(settings: T): T {
  return { ...settings, training: { ...settings.training, parametrization: 'complete' } };
}

function atBase<T extends TopLevel>(settings: T, base: BaseShape, rates: readonly RateMultiple[]): T {
  const { d_model, n_layers, head_size, batch_tokens } = base;
  const complete = underComplete(settings);
  const sequences = Math.max(1, Math.round(batch_tokens / settings.sequence_length.value));
  return {
    ...complete,
    model_sizes: [customShape(d_model, n_layers, d_model / head_size)],
    batch_sequences: new WrittenNumber(sequences, String(sequences)),
    training: { ...complete.training, learning_rate: [...rates] },
    // The loss of the training pass decides; the other modes would be evaluated for nothing.
    evaluation: { ...settings.evaluation, autoregressive: false },
  };
}

/** Two digits, so that ids are short. */
function usualBudget(product: Product): number {
  const [shape] = product.model_sizes as [ReturnType<typeof customShape>];
  const model = modelOf({ product, shape, variant: 'baseline', routing: null });
  const tokens = TOKENS_PER_PARAMETER * parameterCounts(model).total;
  const flops = (tokens / model.sequence_length) * 3 * flopsPerPass(model).total;
  return Number(flops.toPrecision(2));
}

const writtenFlops = (flops: number) => new WrittenNumber(flops, flops.toExponential().replace('e+', 'e'));
