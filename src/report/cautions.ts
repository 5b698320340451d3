/** Warnings about runs whose losses are not comparable. */
import { counted } from '../format.js';
import { rateWarnings } from './rates.js';
import type { Study } from './study.js';
import { percent } from './words.js';

const BUDGET_TOLERANCE = 0.01;

const sentence = (text: string) => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;

/** One sentence per warning. */
export function cautionsOf({ done, repeats, budgets }: Study): string[] {
  const specs = done.map(({ spec }) => spec);
  const differing = (what: string, values: readonly (string | number)[]) => {
    const distinct = [...new Set(values)];
    return distinct.length < 2
      ? []
      : [`Runs differ in their ${what} (${distinct.join('; ')}): their losses are not comparable.`];
  };
  const differ = repeats.filter(
    ({ run, counted: { row } }) => run.row.loss !== null && run.row.loss !== row.loss,
  );
  const dataWarnings = new Set(done.flatMap((run) => run.dataWarnings ?? []).map(sentence));
  const missed = done
    .map(({ row }) => Math.abs(row.train_flops / row.flop_budget - 1))
    .filter((miss) => miss > BUDGET_TOLERANCE);
  return [
    ...differing(
      'training data',
      specs.map(({ data }) => ('text' in data ? data.text : data.train).join(' ')),
    ),
    ...differing(
      'held-out data',
      specs.map(({ data }) => ('text' in data ? data.heldout_text : data.heldout).join(' ')),
    ),
    ...differing(
      'vocabulary',
      specs.map(({ model }) => model.vocab_size),
    ),
    ...differing(
      'sequence length',
      specs.map(({ model }) => model.sequence_length),
    ),
    ...differing(
      'number of held-out sequences',
      specs.map(({ evaluation }) => evaluation.sequences),
    ),
    ...dataWarnings,
    ...rateWarnings(budgets),
    ...(repeats.length === 0
      ? []
      : [
          `${counted(repeats.length, 'run')} of the folders ${repeats.length === 1 ? 'is' : 'are'} the same as another one, by configuration and data, and ${repeats.length === 1 ? 'counts' : 'count'} once${differ.length === 0 ? '' : `; ${differ.length} of them have another loss, of which that of the first to finish counts`}.`,
        ]),
    ...(missed.length === 0
      ? []
      : [
          `${counted(missed.length, 'run')} missed the budget by more than 1%, by ${percent(Math.max(...missed))} at most: a smaller batch_sequences gives more steps.`,
        ]),
  ];
}
