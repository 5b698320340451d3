/** `--set key=value`: the same runs as if the value stood in the file, and errors that name the setting. */
import { expect, it } from 'vitest';
import { parseSweepFile } from '../../src/config/sweep-file.js';
import { expandSweep } from '../../src/plan/expand.js';

const FILE = `name: a
flop_budgets: [1e9]
data: {text: a, heldout_text: b}
capacities: [0.5]
model_sizes: [{d_model: 16, n_layers: 2}]
sequence_length: 32
batch_sequences: 2
training:
  weight_decay: 0.2
`;

/** The runs of a file, with their ids and hashes. */
const runs = (text: string, ...settings: string[]) => expandSweep(parseSweepFile('s.yaml', text, settings));

it.each([
  ['flop_budgets=[1e9, 3e9]', FILE.replace('[1e9]', '[1e9, 3e9]')],
  ['capacities=0.25', FILE.replace('[0.5]', '[0.25]')],
  ['capacities=[]', FILE.replace('[0.5]', '[]')],
  ['training.learning_rate=[1e-3, 3e-3]', `${FILE}  learning_rate: [1e-3, 3e-3]\n`],
  ['training.weight_decay=0.1', FILE.replace('0.2', '0.1')],
  ['routing.predictor_hidden=8', `${FILE}routing: {predictor_hidden: 8}\n`],
  ['training={learning_rate: 1e-3}', FILE.replace('weight_decay: 0.2', 'learning_rate: 1e-3')],
  ['model_sizes=44M', FILE.replace('{d_model: 16, n_layers: 2}', '44M').replace('1e9', '1e15')],
  ['baseline=false', `${FILE}baseline: false\n`],
  ['data.text=[c, d]', FILE.replace('text: a,', 'text: [c, d],')],
])('%s', (setting, text) => {
  const settings = setting === 'model_sizes=44M' ? [setting, 'flop_budgets=1e15'] : [setting];
  expect(runs(FILE, ...settings)).toEqual(runs(text));
});

it('later settings replace earlier ones, and entries of grids keep their own values', () => {
  expect(runs(FILE, 'seeds=1', 'seeds=2')).toEqual(runs(`${FILE}seeds: [2]\n`));
  const grids = `${FILE}grids: [{seeds: [5]}, {capacities: [0.25]}]\n`;
  expect(runs(grids, 'seeds=7')).toEqual(
    runs(grids.replace('seeds: [5]', 'seeds: [5]').replace('name: a', 'name: a\nseeds: [7]')),
  );
});

it.each([
  ['lr=1e-3', '--set lr=1e-3: lr: unknown key; did you mean training.learning_rate?'],
  ['training.lr=1', '--set training.lr=1: training.lr: unknown key; did you mean learning_rate?'],
  ['capacities=2', '--set capacities=2: capacities: found 2; allowed: a number above 0 and at most 1'],
  ['seeds=[0, x]', "--set seeds=[0, x]: seeds[1]: found the text 'x'; allowed: a whole number of at least 0"],
  ['seeds=', '--set seeds=: seeds: found nothing; allowed: a list of whole numbers'],
  ['capacities', '--set capacities: found no key=value; as in --set training.learning_rate=1e-3'],
  ['=1', '--set =1: found no key=value; as in --set training.learning_rate=1e-3'],
  ['seeds=[0', '--set seeds:1:3: yaml: '],
])('reports the error of %s', (setting, message) => {
  expect(() => runs(FILE, setting)).toThrow(message);
});
