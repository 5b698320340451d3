/** A sweep that trains in seconds: sweep file, texts and results folder. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readCsv } from '../../src/files/csv.js';
import { RUN_TABLE, TIME_COLUMNS } from '../../src/results/columns.js';
import { readPlan } from '../../src/results/sweep-folder.js';

/** Baseline, learned and random routing of one shape, about 40 steps each. */
export const TINY_SWEEP = `name: tiny
flop_budgets: [3e8]
capacities: [0.25]
routing_frequencies: [2]
routers: [learned, random]
model_sizes: [{d_model: 16, n_layers: 2}]
sequence_length: 32
batch_sequences: 2
routing: {predictor_hidden: 8}
evaluation: {sequences: 4}
backend: wasm
data: {text: train.txt, heldout_text: heldout.txt, tokenizer: bytes}
`;

export const TINY_RUNS = [
  '3e8-baseline-d16l2-s0',
  '3e8-mod-c0.25-f2-d16l2-s0',
  '3e8-random-c0.25-f2-d16l2-s0',
];

export interface TinySweep {
  folder: string;
  config: string;
  results: string;
}

/**
 * Writes the sweep file and its texts into a new folder.
 *
 * @param prefix of the folder's name
 */
export function makeTinySweep(text = TINY_SWEEP, prefix = 'mod-sweep-'): TinySweep {
  const folder = mkdtempSync(join(tmpdir(), prefix));
  const words = Array.from({ length: 600 }, (_, i) => `the ${i * i} of ${i}`).join(' ');
  writeFileSync(join(folder, 'train.txt'), words);
  writeFileSync(join(folder, 'heldout.txt'), words.slice(0, 500).toUpperCase());
  const config = join(folder, 'tiny.yaml');
  writeFileSync(config, text);
  return { folder, config, results: join(folder, 'results') };
}

/** The arguments of the process in which a sweep trains one run. */
export function trainRunArgs({ results }: Pick<TinySweep, 'results'>, run: string, name = 'tiny'): string[] {
  const folder = join(results, name);
  const { base_dir, runs } = readPlan(folder);
  const hash = runs.find(({ run_id }) => run_id === run)?.config_hash as string;
  return ['train-run', folder, run, '--config-hash', hash, '--base-dir', base_dir];
}

type Row = Record<string, unknown>;

export function runRows({ results }: Pick<TinySweep, 'results'>, name = 'tiny'): Row[] {
  return readCsv<Row>(join(results, name, 'runs.csv'), RUN_TABLE);
}

/** Rows without the columns that differ between two trainings of a run. */
export function masked(rows: Row[]): Row[] {
  return rows.map((row) =>
    Object.fromEntries(Object.entries(row).filter(([column]) => !TIME_COLUMNS.has(column))),
  );
}
