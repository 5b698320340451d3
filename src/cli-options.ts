/** Options that several commands share, and parsers for the values of options. */
import { InvalidArgumentError, Option } from 'commander';
import { REQUESTED_BACKENDS } from './backends/names.js';
import { REQUESTED_PRECISIONS } from './backends/precisions.js';
import { TOKEN_WIDTHS, type TokenWidth } from './files/guess.js';
import type { Shard } from './plan/shard.js';

/** The description of a TARGET argument. */
export const TARGET = 'sweep or run, by folder or name (default: the newest sweep)';

function numberWhere(accepts: (value: number) => boolean, expected: string): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !accepts(value)) throw new InvalidArgumentError(`Expected ${expected}.`);
    return value;
  };
}

export const positiveInteger = numberWhere(
  (value) => Number.isInteger(value) && value >= 1,
  'a whole number above 0',
);
export const nonNegativeInteger = numberWhere(
  (value) => Number.isInteger(value) && value >= 0,
  'a whole number of at least 0',
);
export const nonNegative = numberWhere(
  (value) => value >= 0 && Number.isFinite(value),
  'a number of at least 0',
);
export const positive = numberWhere((value) => value > 0 && Number.isFinite(value), 'a number above 0');
export const probability = numberWhere((value) => value > 0 && value <= 1, 'a number above 0 and at most 1');
export const share = numberWhere((value) => value > 0 && value < 1, 'a number between 0 and 1');

export const jobs = (text: string): number | 'auto' => (text === 'auto' ? text : positiveInteger(text));

/** Parses I/N: 0/8 is the first of eight shards. */
export function shard(text: string): Shard {
  const [, index, of] = /^(\d+)\/(\d+)$/.exec(text) ?? [];
  if (index === undefined || of === undefined || Number(index) >= Number(of)) {
    throw new InvalidArgumentError('Expected I/N, with I from 0 to N - 1.');
  }
  return { index: Number(index), of: Number(of) };
}

export function bareTokenBytes(text: string): TokenWidth {
  const width = TOKEN_WIDTHS.find((bytes) => String(bytes) === text);
  if (width === undefined) throw new InvalidArgumentError(`Expected ${TOKEN_WIDTHS.join(', ')}.`);
  return width;
}

export const backendOption = () =>
  new Option('--backend <name>', 'backend to compute on').choices(REQUESTED_BACKENDS).default('auto');

export const precisionOption = () =>
  new Option('--precision <name>', 'number format of matrix products')
    .choices(REQUESTED_PRECISIONS)
    .default('auto');

export const resultsOption = () =>
  new Option('--results <dir>', 'folder that contains the sweeps').default('results');

export const uncheckedOption = () =>
  new Option(
    '--unchecked',
    'read files whose bytes look like something else; files of formats with a signature are still refused',
  ).default(false);

export const jsonOption = () => new Option('--json', 'print JSON').default(false);

/** Repeatable, one value each: `--set seeds=[0,1] --set training.learning_rate=1e-3`. */
export const setOption = () =>
  new Option(
    '--set <key=value>',
    'replace a value of the sweep file, as if it stood there, e.g. training.learning_rate=1e-3; repeatable',
  )
    .argParser((setting: string, others: string[]) => [...others, setting])
    .default([]);
