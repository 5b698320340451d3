/** Invalid sweep files: every message has the position, the key, the value found and the values allowed. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseSweepFile } from '../../src/config/sweep-file.js';
import { InputError } from '../../src/errors.js';
import { expandSweep } from '../../src/plan/expand.js';
import { timed } from '../support/cpu.js';
import { writeTinyTokenizer } from '../support/tokenizer.js';

/** Four valid lines; the error follows on the fifth. */
const GOOD = 'name: a\nflop_budgets: [1e9]\ndata: {text: a, heldout_text: b}\ncapacities: [0.5]\n';
const TOKENS = 'name: a\nflop_budgets: [1e9]\n';

const CAPACITY = 'a number above 0 and at most 1';
const SIZE = 'a size of table A9 (44M, 57M, 74M, ... 1593M) or {d_model, n_layers, n_heads, d_ff}';
const NAME =
  "a name for the sweep's folder: letters, digits, dots, dashes and underscores, the first a letter or digit";

function messageFor(text: string): string {
  try {
    parseSweepFile('s.yaml', text);
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    return (error as InputError).message;
  }
  return 'accepted';
}

// biome-ignore format: one file a line
it.each([
  // YAML itself
  ['', 's.yaml:1:1: found nothing: the file is empty'],
  ['- 1\n', 's.yaml:1:1: found a list; allowed: a mapping of keys to values: name, flop_budgets, data, ...'],
  [`${GOOD}\tseeds: [1]\n`, 's.yaml:5:1: yaml: Tabs are not allowed as indentation'],
  [`${GOOD}gates: [raw\nseeds: [1]\n`, 's.yaml:6:1: yaml: Flow sequence in block collection must be sufficiently indented and end with a ]'],
  [`${GOOD}seeds: !odd [1]\n`, 's.yaml:5:8: yaml: Unresolved tag: !odd'],
  [`${GOOD}seeds: [1]\n\nseeds: [2]\n`, 's.yaml:7:1: seeds: found a second time; once is allowed'],
  [`${GOOD}routing: {aux_loss_weight: 0, aux_loss_weight: 1}\n`, 's.yaml:5:31: routing.aux_loss_weight: found a second time; once is allowed'],
  [`${GOOD}seeds: *none\n`, 's.yaml:5:8: seeds: found *none; no &none comes before it'],
  [`${GOOD}seeds: &all [1, *all]\n`, 's.yaml:5:17: seeds[1]: found *all inside its own anchor, which never ends'],
  [`${GOOD}? [1]\n: 2\n`, 's.yaml:5:3: found a key that is not plain text'],
  [`${GOOD}null: 2\n`, 's.yaml:5:1: found a key that is not plain text'],
  ['# a comment alone\n', 's.yaml:1:1: found nothing: the file is empty'],
  [`${GOOD}---\nname: b\n`, 's.yaml:5:1: yaml: found a second document; a sweep file is one'],
  [`${GOOD}seeds [1]\n`, 's.yaml:5:1: yaml: Implicit map keys need to be followed by map values'],
  [`${GOOD}seeds: [1,,2]\n`, 's.yaml:5:11: yaml: Unexpected , in flow sequence'],
  [`${GOOD}seeds: &some [1]\ngrids: [{seeds: *same}]\n`, 's.yaml:6:17: grids[0].seeds: found *same; no &same comes before it'],
  // merges
  [`${GOOD}grids:\n  - &first {seeds: [1]}\n  - {<<: *first, gates: [raw]}\n`, 's.yaml:7:6: grids[1].<<: found a merge key; write out the keys, or use grids'],
  [`${GOOD}routing: &own {<<: *own}\n`, 's.yaml:5:16: routing.<<: found a merge key; write out the keys, or use grids'],
  // unknown keys
  [`${GOOD}capacity: [1]\n`, 's.yaml:5:1: capacity: unknown key; did you mean capacities?'],
  [`${GOOD}routing: {predictor: 8}\n`, 's.yaml:5:11: routing.predictor: unknown key; did you mean predictor_hidden?'],
  [`${GOOD}grids:\n  - seeds: [1]\n  - name: b\n`, expect.stringContaining('s.yaml:7:5: grids[1].name: unknown key; allowed: flop_budgets, ')],
  [`${GOOD}__proto__: {}\n`, expect.stringContaining('s.yaml:5:1: __proto__: unknown key')],
  // missing keys
  ['flop_budgets: [1]\ndata: {text: a, heldout_text: b}\n', `s.yaml:1:1: name: missing; needed: ${NAME}`],
  ['name: a\ndata: {text: a, heldout_text: b}\n', 's.yaml:1:1: flop_budgets: missing; needed: a list of numbers of FLOPs'],
  ['name: a\nflop_budgets: [1e9]\n', 's.yaml:1:1: data: missing; needed: where the tokens come from'],
  ['name: a\ndata: {text: a, heldout_text: b}\ngrids: [{flop_budgets: [1]}, {seeds: [1]}]\n', 's.yaml:3:30: grids[1].flop_budgets: missing; needed: a list of numbers of FLOPs, here or at the top level'],
  // wrong types
  [`${GOOD}seeds: ["1"]\n`, "s.yaml:5:9: seeds[0]: found the text '1', a number in quotes; allowed: a whole number of at least 0"],
  [`${GOOD}seeds: 1.5\n`, 's.yaml:5:8: seeds: found 1.5; allowed: a whole number of at least 0'],
  [`${GOOD}seeds:\n`, 's.yaml:5:7: seeds: found nothing; allowed: a list of whole numbers'],
  [`${GOOD}seeds: []\n`, 's.yaml:5:8: seeds: found an empty list; allowed: a list of whole numbers that is not empty'],
  [`${GOOD}baseline: yes\n`, "s.yaml:5:11: baseline: found the text 'yes'; allowed: true or false"],
  [`${GOOD}training: 1e-3\n`, 's.yaml:5:11: training: found 1e-3; allowed: a mapping of learning_rate, weight_decay, gradient_clip, micro_batch_sequences, deterministic, parametrization, base'],
  [`${GOOD}routers: [learned, lerned]\n`, "s.yaml:5:20: routers[1]: found the text 'lerned'; allowed: learned, random"],
  [`${GOOD}backend: gpu\n`, "s.yaml:5:10: backend: found the text 'gpu'; allowed: auto, cuda, tensorflow, wasm"],
  [`${GOOD}precision: fp16\n`, "s.yaml:5:12: precision: found the text 'fp16'; allowed: auto, fp32, bf16"],
  ['name: [a]\nflop_budgets: [1e9]\ndata: {text: a, heldout_text: b}\n', `s.yaml:1:7: name: found a list; allowed: ${NAME}`],
  ['name: ../a\nflop_budgets: [1e9]\ndata: {text: a, heldout_text: b}\n', `s.yaml:1:7: name: found the text '../a'; allowed: ${NAME}`],
  [GOOD.replace('name: a', `name: ${'b'.repeat(200)}`), 'accepted'],
  [GOOD.replace('name: a', `name: ${'b'.repeat(201)}`), `s.yaml:1:7: name: found the text '${'b'.repeat(40)}...'; allowed: a name of at most 200 bytes, valid as a file name`],
  [GOOD.replace('name: a', `name: ${'é'.repeat(101)}`), expect.stringContaining('s.yaml:1:7: name: found the text')],
  [`${GOOD}grids:\n`, 's.yaml:5:7: grids: found nothing; allowed: a list of mappings'],
  [`${GOOD}grids: {seeds: [1]}\n`, 's.yaml:5:8: grids: found a mapping; allowed: a list of mappings'],
  [`${GOOD}grids:\n  -\n`, 's.yaml:6:4: grids[0]: found nothing; allowed: a mapping of keys that override those of the top level'],
  [`${GOOD}grids: [{seeds: []}]\n`, 's.yaml:5:17: grids[0].seeds: found an empty list; allowed: a list of whole numbers that is not empty'],
  [`${GOOD}sequence_length: "2048"\n`, "s.yaml:5:18: sequence_length: found the text '2048', a number in quotes; allowed: a whole number from 1 to 1048576"],
  [`${GOOD}grids: [{capacities: ['0.5']}]\n`, "s.yaml:5:23: grids[0].capacities[0]: found the text '0.5', a number in quotes; allowed: a number above 0 and at most 1"],
  [`${GOOD}training: {learning_rate: "1e-3"}\n`, "s.yaml:5:27: training.learning_rate: found the text '1e-3', a number in quotes; allowed: auto, a number above 0, or a multiple of the default such as 0.7x"],
  [`${GOOD}tie_embeddings: "true"\n`, "s.yaml:5:17: tie_embeddings: found the text 'true'; allowed: true or false"],
  ['name: a\nflop_budgets: ["6e18"]\ndata: {text: a, heldout_text: b}\n', "s.yaml:2:16: flop_budgets[0]: found the text '6e18', a number in quotes; allowed: a number above 0"],
  ['name: a\nflop_budgets: -6e18\ndata: {text: a, heldout_text: b}\n', 's.yaml:2:15: flop_budgets: found -6e18; allowed: a number above 0'],
  ['name:\nflop_budgets: [1e9]\ndata: {text: a, heldout_text: b}\n', `s.yaml:1:6: name: found nothing; allowed: ${NAME}`],
  // out of range
  [`${GOOD}seeds: [-1, .inf]\n`, 's.yaml:5:9: seeds[0]: found -1; allowed: a whole number of at least 0\ns.yaml:5:13: seeds[1]: found .inf; allowed: a whole number of at least 0'],
  ['name: a\nflop_budgets: [1e9]\ndata: {text: a, heldout_text: b}\ncapacities: [0, 1.5, .NaN]\n', ['0', '1.5', '.NaN'].map((found, i) => `s.yaml:4:${[14, 17, 22][i]}: capacities[${i}]: found ${found}; allowed: ${CAPACITY}`).join('\n')],
  [`${GOOD}evaluation: {sequences: 0}\n`, 's.yaml:5:25: evaluation.sequences: found 0; allowed: a whole number of at least 1'],
  [`${GOOD}grids: [{capacities: [0, 1.01, .nan]}]\n`, ['0', '1.01', '.nan'].map( (found, i) => `s.yaml:5:${[23, 26, 32][i]}: grids[0].capacities[${i}]: found ${found}; allowed: ${CAPACITY}`, ) .join('\n')],
  ['name: a\nflop_budgets: [-6e18, 1e400]\ndata: {text: a, heldout_text: b}\n', 's.yaml:2:16: flop_budgets[0]: found -6e18; allowed: a number above 0\ns.yaml:2:23: flop_budgets[1]: found 1e400; allowed: a number above 0'],
  [`${GOOD}batch_sequences: 1.5\n`, 's.yaml:5:18: batch_sequences: found 1.5; allowed: a whole number from 1 to 1048576'],
  [`${GOOD}routing_frequencies: [0]\n`, 's.yaml:5:23: routing_frequencies[0]: found 0; allowed: a whole number of at least 1'],
  [`${GOOD}routing: {aux_loss_weight: -1}\n`, 's.yaml:5:28: routing.aux_loss_weight: found -1; allowed: a number of at least 0'],
  [`${GOOD}training: {learning_rate: [1e-3, 0]}\n`, 's.yaml:5:34: training.learning_rate[1]: found 0; allowed: auto, a number above 0, or a multiple of the default such as 0.7x'],
  [`${GOOD}training: {learning_rate: fast}\n`, "s.yaml:5:27: training.learning_rate: found the text 'fast'; allowed: auto, a number above 0, or a multiple of the default such as 0.7x"],
  // experts
  [`${GOOD}expert_variants: [moe, mode]\n`, "s.yaml:5:24: expert_variants[1]: found the text 'mode'; allowed: moe, mode-staged, mode-integrated, moe-reduced"],
  [`${GOOD}expert_variants: mode\n`, "s.yaml:5:18: expert_variants: found the text 'mode'; allowed: moe, mode-staged, mode-integrated, moe-reduced"],
  [`${GOOD}experts: {counts: 4}\n`, 's.yaml:5:11: experts.counts: unknown key; did you mean count?'],
  [`${GOOD}experts: 4\n`, 's.yaml:5:10: experts: found 4; allowed: a mapping of count, capacity_factor, balance_loss_weight, no_ops, balance_no_ops'],
  [`${GOOD}experts: {count: 0, no_ops: 0}\n`, 's.yaml:5:18: experts.count: found 0; allowed: a whole number from 1 to 1024\ns.yaml:5:29: experts.no_ops: found 0; allowed: a whole number from 1 to 1024'],
  [`${GOOD}experts: {capacity_factor: 0, balance_loss_weight: -1}\n`, 's.yaml:5:28: experts.capacity_factor: found 0; allowed: a number above 0\ns.yaml:5:52: experts.balance_loss_weight: found -1; allowed: a number of at least 0'],
  [`${TOKENS}data: {text: a, heldout_text: b}\nexpert_variants: [mode-staged]\n`, 's.yaml:1:1: expert_variants: found mode-staged, and no capacities; needed: the capacities of its routed blocks'],
  [`${GOOD}grids: [{expert_variants: [mode-staged], capacities: []}]\n`, 's.yaml:5:9: grids[0].expert_variants: found mode-staged, and no capacities; needed: the capacities of its routed blocks'],
  // shapes
  [`${GOOD}model_sizes: 45M\n`, `s.yaml:5:14: model_sizes: found the text '45M'; allowed: ${SIZE}`],
  [`${GOOD}model_sizes: [44M, 45M]\n`, `s.yaml:5:20: model_sizes[1]: found the text '45M'; allowed: ${SIZE}`],
  [`${GOOD}model_sizes: [{d_model: 64}]\n`, 's.yaml:5:15: model_sizes[0].n_layers: missing; needed: a whole number from 1 to 4096'],
  [`${GOOD}model_sizes: [{d_model: 64, n_layers: 2, layers: 2}]\n`, 's.yaml:5:42: model_sizes[0].layers: unknown key; did you mean n_layers?'],
  [`${GOOD}model_sizes: [{d_model: 64, n_layers: 2, n_heads: 3}]\n`, 's.yaml:5:51: model_sizes[0].n_heads: found 3; allowed: a number that divides d_model 64 into heads of an even size'],
  [`${GOOD}model_sizes: [{d_model: 6, n_layers: 2, n_heads: 2}]\n`, 's.yaml:5:50: model_sizes[0].n_heads: found 2; allowed: a number that divides d_model 6 into heads of an even size'],
  [`${GOOD}model_sizes: [{d_model: 63, n_layers: 2}]\n`, 's.yaml:5:25: model_sizes[0].d_model: found 63; allowed: an even number: rotary positions pair its halves'],
  [`${GOOD}model_sizes: []\n`, 's.yaml:5:14: model_sizes: found an empty list; allowed: a list of sizes that is not empty'],
  [`${GOOD}model_sizes: [{}]\n`, 's.yaml:5:15: model_sizes[0].d_model: missing; needed: a whole number from 2 to 1048576\ns.yaml:5:15: model_sizes[0].n_layers: missing; needed: a whole number from 1 to 4096'],
  // data
  [`${TOKENS}data: a.txt\n`, "s.yaml:3:7: data: found 'a.txt', which is no folder with a prepare.json; allowed: the folder of mod data prepare, or a mapping of text and heldout_text, or of train and heldout"],
  [`${TOKENS}data: {text: a, heldout_text: b, token_bytes: 2}\n`, 's.yaml:3:47: data.token_bytes: found 2; allowed: only with token files; text files are read as bytes'],
  [`${TOKENS}data: {train: a, heldout: b, tokenizer: nowhere.json}\n`, 's.yaml:3:7: data.vocab_size: missing; needed: the number of tokens of the tokenizer'],
  [`${TOKENS}data: {train: a, heldout: b, vocab_size: 32000, tokenizer: gpt2}\n`, 's.yaml:3:42: data.vocab_size: found 32000; allowed: at least 50257 for gpt2'],
  [`${TOKENS}data: {text: a, train: b}\n`, 's.yaml:3:7: data: found both text and token files; allowed: either text and heldout_text, or train and heldout'],
  [`${TOKENS}data: {vocab_size: 256}\n`, 's.yaml:3:7: data: found neither text nor token files; allowed: either text and heldout_text, or train and heldout'],
  [`${TOKENS}data: {text: a}\n`, 's.yaml:3:7: data.heldout_text: missing; needed: a path or glob, or a list of them'],
  [`${TOKENS}data: {train: a, heldout: b}\n`, 's.yaml:3:7: data.vocab_size: missing; needed: the number of tokens of the tokenizer'],
  [`${TOKENS}data: {train: a, heldout: b, vocab_size: 9, token_bytes: 3}\n`, 's.yaml:3:58: data.token_bytes: found 3; allowed: 1, 2, 4, 8'],
  [`${TOKENS}data: {text: [a, ''], heldout_text: b}\n`, "s.yaml:3:18: data.text[1]: found the text ''; allowed: a path or glob, or a list of them"],
  [`${TOKENS}data: {text: a, heldout_text: b, tokenizer: t.json}\n`, "s.yaml:3:45: data.tokenizer: found the text 't.json'; allowed: bytes; for another tokenizer convert the text to token files with mod data prepare"],
  [`${TOKENS}data: {text: a, heldout_text: b, vocab_size: 64}\n`, 's.yaml:3:46: data.vocab_size: found 64; allowed: at least 256 for bytes'],
  // nothing to train
  [`${TOKENS}baseline: false\ndata: {text: a, heldout_text: b}\n`, 's.yaml:1:1: capacities: found none, and baseline: false; needed: a capacity, expert variants, or the baseline'],
  // several errors, in the order of the file
  [
    `${GOOD}model_sizes: {match_flops: 44}\n`,
    "s.yaml:5:28: model_sizes.match_flops: found 44; allowed: a size, or the folder of a finished sweep whose optimal baseline's FLOPs per pass are matched",
  ],
  [`${GOOD}checkpoint: {minutes: -1, keep: 0}\n`, 's.yaml:5:23: checkpoint.minutes: found -1; allowed: a number of at least 0\ns.yaml:5:33: checkpoint.keep: found 0; allowed: a whole number from 1 to 1000'],
  [`${GOOD}on_finish: 7\n`, 's.yaml:5:12: on_finish: found 7; allowed: a program or an argument'],
  [`${GOOD}grids: [{on_finish: [notify]}]\n`, expect.stringMatching(/grids\[0\]\.on_finish: unknown key/)],
  [`${GOOD}seed: [1]\ngates: [row]\n`, "s.yaml:5:1: seed: unknown key; did you mean seeds?\ns.yaml:6:9: gates[0]: found the text 'row'; allowed: raw, sigmoid"],
])('%j: %s', (text, message) => {
  expect(messageFor(text)).toEqual(message);
});

describe('an existing tokenizer.json', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mod-bad-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const seven = join(folder, 'seven.json');
  writeTinyTokenizer(seven, 7);
  const other = join(folder, 'other.json');
  writeFileSync(other, '{"vocab": {}}');
  const tokens = (vocab: number, tokenizer: string) =>
    `{train: a, heldout: b, vocab_size: ${vocab}, tokenizer: ${tokenizer}}`;

  // biome-ignore format: one file a line
  it.each([
    [`${TOKENS}data: ${tokens(6, seven)}\n`, `s.yaml:3:42: data.vocab_size: found 6; allowed: at least 7, the tokens of ${seven}`],
    [`${GOOD}grids: [{data: ${tokens(6, seven)}}]\n`, `s.yaml:5:51: grids[0].data.vocab_size: found 6; allowed: at least 7, the tokens of ${seven}`],
    [`${TOKENS}data: ${tokens(8, other)}\n`, `s.yaml:3:56: data.tokenizer: ${other}: not a tokenizer.json: it has no model.vocab`],
    [`${TOKENS}data: ${tokens(7, seven)}\n`, 'accepted'],
    [`${TOKENS}data: ${tokens(8, seven)}\n`, 'accepted'], // vocabularies may be padded
    [`${TOKENS}data: ${tokens(6, join(folder, 'nowhere.json'))}\n`, 'accepted'], // mod plan reports that it is missing
  ])('%j: %s', (text, message) => {
    expect(messageFor(text)).toBe(message);
  });
});

// biome-ignore format: one file a line
it.each([
  [`${GOOD}`, 'the budget allows 0 steps of 128 sequences of 2048 tokens, at least 10 are required'],
  [`${TOKENS}data: {text: a, heldout_text: b}\nbaseline: false\ncapacities: [0.01]\nsequence_length: 8\nbatch_sequences: 1\nmodel_sizes: [{d_model: 16, n_layers: 2}]\n`, 'capacity 0.01 of 8 tokens selects none'],
  [`${TOKENS}data: {text: a, heldout_text: b}\nbaseline: false\ncapacities: [0.5]\nsequence_length: 8\nbatch_sequences: 1\nrouting_frequencies: [3]\nmodel_sizes: [{d_model: 16, n_layers: 2}]\n`, 'routing frequency 3 is above the 2 layers: no block would be routed'],
])('a sweep without a feasible run, %j: %s', (text, reason) => {
  const message = `s.yaml:2:1: flop_budgets: no point of this sweep can be trained: ${reason}`;
  expect(() => expandSweep(parseSweepFile('s.yaml', text))).toThrow(new InputError(message));
});

it('rejects aliases that expand exponentially, within 2 s', async () => {
  const levels = Array.from(
    { length: 12 },
    (_, i) => `a${i + 1}: &a${i + 1} [${Array(9).fill(`*a${i}`).join(', ')}]`,
  );
  const text = `${GOOD}a0: &a0 [1]\n${levels.join('\n')}\n`;
  const { result: message, seconds } = await timed(() => messageFor(text));
  expect(message).toMatch(/^s\.yaml:\d+:\d+: a\d+: found aliases that expand to more than 10000 values/);
  expect(seconds).toBeLessThan(2);
});

it.each([
  ['[', 's.yaml:1:'],
  ['- ', 's.yaml:1:'],
  ['a: {', 's.yaml:1:'],
])('rejects 100,000 levels of %j', (level, start) => {
  expect(messageFor(level.repeat(100_000))).toMatch(new RegExp(`^${start}\\d+: yaml: `));
});

it.each([
  // Keys that stand one level too high or too low, and names from other programs.
  ['learning_rate: 1e-3', 'training.learning_rate'],
  ['lr: 1e-3', 'training.learning_rate'],
  ['LR: 1e-3', 'training.learning_rate'],
  ['weight-decay: 0', 'training.weight_decay'],
  ['batch_size: 8', 'batch_sequences'],
  ['seq_len: 8', 'sequence_length'],
  ['block_size: 8', 'sequence_length'],
  ['n_layers: 8', 'model_sizes'],
  ['vocab_size: 8', 'data.vocab_size'],
  ['budget: 1e18', 'flop_budgets'],
  ['aux_loss_weight: 1', 'routing.aux_loss_weight'],
  ['every_steps: 1', 'evaluation.every_steps'],
  ['dtype: bf16', 'precision'],
  ['device: cuda', 'backend'],
  ['capacitys: 0.5', 'capacities'],
  ['training: {lr: 1e-3}', 'learning_rate'],
  ['training: {learning_rates: 1e-3}', 'learning_rate'],
  ['training: {batch_size: 8}', 'batch_sequences'],
  ['training: {seed: 8}', 'seeds'],
  ['evaluation: {every: 8}', 'every_steps'],
  ['grids: [{lr: 1}]', 'training.learning_rate'],
])('suggests the key for %s', (line, key) => {
  const text = GOOD.replace('capacities: [0.5]\n', '');
  expect(() => parseSweepFile('s.yaml', `${text}${line}\n`)).toThrow(`did you mean ${key}?`);
});

it('takes a single value for a list of one', () => {
  const text = `name: a
flop_budgets: 1e9
data: {text: a, heldout_text: b}
capacities: 0.125
routing_frequencies: 2
routers: learned
gates: raw
seeds: 3
expert_variants: moe
training: {learning_rate: 1e-3}
`;
  const written = (sizes: string, brackets: boolean) => {
    const lists = text.replace(/(: )([\w.-]+)(?=}?$)/gm, (_, colon, value) => `${colon}[${value}]`);
    const whole = (brackets ? lists.replace('name: [a]', 'name: a') : text) + sizes;
    return parseSweepFile('s.yaml', whole).products;
  };
  expect(written('model_sizes: 44M\n', false)).toEqual(written('model_sizes: [44M]\n', true));
  expect(written('model_sizes: {d_model: 64, n_layers: 2}\n', false)).toEqual(
    written('model_sizes: [{d_model: 64, n_layers: 2}]\n', true),
  );
});
