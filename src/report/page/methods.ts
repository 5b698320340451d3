/** The page's box of methods: what the runs were trained on, how, and on what. */
import { counted } from '../../format.js';
import type { LoadedRun } from '../../results/load.js';
import { readManifest } from '../../results/run-folder.js';
import { escapeXml } from '../figures/figure.js';
import type { Study } from '../study.js';
import { budgetName, shortCount, significant } from '../words.js';

/** A definition list; a value that differs between runs lists each one. */
export function methodsBox({ runs, done }: Study): string {
  const specs = runs.map(({ spec }) => spec);
  const manifests = runs
    .slice(0, 400)
    .flatMap(({ folder }) => (folder === undefined ? [] : (readManifest(folder) ?? [])));
  const seconds = done.reduce((sum, { row }) => sum + (row.wall_s ?? 0), 0);
  const rows: [name: string, value: string][] = [
    ['data', distinct(specs.map(({ data }) => ('text' in data ? data.text : data.train).join(' ')))],
    [
      'held-out data',
      distinct(specs.map(({ data }) => ('text' in data ? data.heldout_text : data.heldout).join(' '))),
    ],
    ['content hash', distinct(manifests.flatMap(({ data_hashes }) => filesText(data_hashes?.train)))],
    [
      'held-out content hash',
      distinct(manifests.flatMap(({ data_hashes }) => filesText(data_hashes?.heldout))),
    ],
    [
      'tokenizer',
      distinct(
        specs.map(({ data, model }) => `${data.tokenizer ?? 'not named'}, ${model.vocab_size} tokens`),
      ),
    ],
    [
      'held-out size',
      distinct(
        specs.map(
          ({ evaluation, model }) =>
            `${evaluation.sequences} sequences, at most ${shortCount(evaluation.sequences * model.sequence_length)} tokens`,
        ),
      ),
    ],
    ['sequence length', distinct(specs.map(({ model }) => `${model.sequence_length} tokens`))],
    [
      'batch',
      distinct(
        specs.map(
          ({ batch_sequences, model }) =>
            `${batch_sequences} sequences, ${shortCount(batch_sequences * model.sequence_length)} tokens`,
        ),
      ),
    ],
    ['schedule', 'warm-up over about 2% of the steps, then a cosine from the peak to a tenth of it'],
    ['parametrization', distinct(specs.map(({ training }) => training.parametrization ?? 'standard'))],
    ['learning rates', distinct(specs.map(({ training }) => significant(training.learning_rate)))],
    [
      'weight decay, gradient clip',
      distinct(specs.map(({ training }) => `${training.weight_decay}, ${training.gradient_clip}`)),
    ],
    ['seeds', distinct(specs.map(({ seed }) => String(seed)))],
    ['budgets', distinct(specs.map(({ flop_budget }) => `${budgetName(flop_budget)} FLOPs`))],
    ['runs', `${counted(done.length, 'finished run')} of ${runs.length}`],
    ['device hours', `${significant(seconds / 3600)}, the sum over the finished runs`],
    [
      'machine',
      distinct(
        done.map(({ row }) =>
          [row.device, row.backend, row.precision].filter((one) => one !== null).join(', '),
        ),
      ),
    ],
    [
      'versions',
      distinct(
        manifests.map(({ versions }) =>
          Object.entries(versions)
            .flatMap(([name, version]) => (version === null ? [] : `${name} ${version}`))
            .join(', '),
        ),
      ),
    ],
    ['commits', distinct(done.map(commitOf))],
    ['configurations', hashes(runs)],
  ];
  const items = rows
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `<dt>${name}</dt><dd>${escapeXml(value)}</dd>`);
  return `<dl class="methods">${items.join('')}</dl>`;
}

/** Each data file with its content hash; none for runs of versions that did not record it. */
const filesText = (files: Readonly<Record<string, string>> = {}) =>
  Object.entries(files).map(([path, hash]) => `${path}: ${hash}`);

const commitOf = ({ row }: LoadedRun) => row.git_commit?.slice(0, 7) ?? '';

/** Each value once, with the number of its runs where there are several values. */
function distinct(values: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const value of values) if (value !== '') counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts]
    .map(([value, count]) => (counts.size === 1 ? value : `${value} (${counted(count, 'run')})`))
    .join('; ');
}

const hashes = (runs: readonly LoadedRun[]) => {
  const [first] = runs;
  return first === undefined ? '' : `hashes in plan.json, the first ${first.row.config_hash.slice(0, 12)}`;
};
