/** Parsed sweep files: defaults, numbers with their spelling, grids that override the top level. */
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import { WrittenNumber } from '../../src/config/document.js';
import { nearestWord } from '../../src/config/messages.js';
import { loadSweepFile, parseSweepFile } from '../../src/config/sweep-file.js';
import { InputError } from '../../src/errors.js';

const MINIMAL = 'name: 6e18\nflop_budgets: [6e18]\ndata: {text: a, heldout_text: [b, c]}\n';
const parse = (text: string) => parseSweepFile('some/folder/s.yaml', text);
const only = (text: string) => {
  const { products } = parse(text);
  expect(products).toHaveLength(1);
  return products[0] as (typeof products)[number];
};

it('fills in the defaults', () => {
  const product = only(MINIMAL);
  expect(product).toMatchObject({
    baseline: true,
    capacities: [],
    routers: ['learned'],
    gates: ['raw'],
    model_sizes: 'auto',
    tie_embeddings: true,
    data: { text: ['a'], heldout_text: ['b', 'c'], tokenizer: 'bytes', vocab_size: 256 },
    training: { learning_rate: ['auto'], micro_batch_sequences: null, deterministic: false },
    evaluation: { autoregressive: true },
    backend: 'auto',
    precision: 'auto',
  });
  const { sequence_length, batch_sequences, routing, training, evaluation } = product;
  const numbers = [sequence_length, batch_sequences, ...product.routing_frequencies, ...product.seeds];
  expect(numbers.map(({ value }) => value)).toEqual([2048, 128, 2, 0]);
  expect([routing.predictor_hidden.value, routing.aux_loss_weight.value]).toEqual([64, 0]);
  expect([training.weight_decay.value, training.gradient_clip.value]).toEqual([0.1, 1]);
  expect([evaluation.sequences.value, evaluation.every_steps.value]).toEqual([1024, 0]);
});

it('accepts a number as a name, and resolves paths against the folder of the file', () => {
  expect(parse(MINIMAL)).toMatchObject({
    name: '6e18',
    path: 'some/folder/s.yaml',
    dir: resolve('some/folder'),
  });
});

it.each(['6e18', '6.0E+18', '6000000000000000000'])('keeps the spelling %s', (text) => {
  expect(only(MINIMAL.replace('[6e18]', `[${text}]`)).flop_budgets).toEqual([new WrittenNumber(6e18, text)]);
});

it('reads token files without a tokenizer', () => {
  const tokens = 'name: a\nflop_budgets: [1]\ndata: {train: t-*.bin, heldout: h.bin, vocab_size: 50257}\n';
  expect(only(tokens).data).toEqual({
    train: ['t-*.bin'],
    heldout: ['h.bin'],
    vocab_size: 50257,
    tokenizer: null,
    token_bytes: 2,
  });
});

it.each([
  ['auto', ['auto']],
  ['1e-3', [new WrittenNumber(1e-3, '1e-3')]],
  ['[auto, 3e-4]', ['auto', new WrittenNumber(3e-4, '3e-4')]],
])('reads learning_rate: %s', (text, expected) => {
  expect(only(`${MINIMAL}training: {learning_rate: ${text}}\n`).training.learning_rate).toEqual(expected);
});

it('reads sizes by name and by shape, with default heads and d_ff', () => {
  const sizes =
    'model_sizes: [217M, {d_model: 96, n_layers: 2}, {d_model: 64, n_layers: 3, n_heads: 4, d_ff: 100}]\n';
  expect(only(MINIMAL + sizes).model_sizes).toEqual([
    { name: '217M', d_model: 896, n_layers: 18, n_heads: 14, d_ff: 3584 },
    { name: 'd96l2', d_model: 96, n_layers: 2, n_heads: 2, d_ff: 384 },
    { name: 'd64l3h4f100', d_model: 64, n_layers: 3, n_heads: 4, d_ff: 100 },
  ]);
});

it('lets a grid override single keys, nested ones too, and takes the others from the top level', () => {
  const { products, top } = parse(
    `${MINIMAL}seeds: [7]\ntraining: {weight_decay: 0.2}\ngrids:\n  - {}\n  - {seeds: [1, 2], training: {learning_rate: 1e-3}}\n`,
  );
  const seen = products.map(({ seeds, training, data }) => ({
    seeds: seeds.map(({ value }) => value),
    decay: training.weight_decay.value,
    rates: training.learning_rate.length,
    data,
  }));
  const { data } = top;
  expect(seen).toEqual([
    { seeds: [7], decay: 0.2, rates: 1, data },
    { seeds: [1, 2], decay: 0.2, rates: 1, data },
  ]);
  expect(products[1]?.training.learning_rate).toEqual([new WrittenNumber(1e-3, '1e-3')]);
});

it('allows budgets and data in the grids alone if every grid has them', () => {
  const text = 'name: a\ngrids: [{flop_budgets: [1], data: {text: a, heldout_text: b}}]\n';
  expect(parse(text).products).toHaveLength(1);
});

it('reads anchors and aliases', () => {
  expect(only(`${MINIMAL}seeds: &few [1, 2]\nrouting_frequencies: *few\n`).routing_frequencies).toEqual([
    new WrittenNumber(1, '1'),
    new WrittenNumber(2, '2'),
  ]);
});

it('names a file that cannot be read', () => {
  expect(() => loadSweepFile('no/such.yaml')).toThrow(InputError);
  expect(() => loadSweepFile('no/such.yaml')).toThrow(/^no\/such\.yaml: cannot be read/);
});

it.each([
  ['capacity', 'capacities'],
  ['Seeds', 'seeds'],
  ['seed', 'seeds'],
  ['frequency', null],
])('the known key nearest to %s is %s', (word, expected) => {
  expect(nearestWord(word, ['capacities', 'seeds', 'routing_frequencies'])).toBe(expected);
});
