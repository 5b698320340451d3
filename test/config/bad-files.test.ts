/** Sweep files that are wrong: every message says where, which key, what was found and what is allowed. */
import { expect, it } from 'vitest';
import { parseSweepFile } from '../../src/config/sweep-file.js';
import { InputError } from '../../src/errors.js';

/** Four lines that are right; what is wrong follows on the fifth. */
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
  [`${GOOD}seeds: &all [1, *all]\n`, 's.yaml:5:17: seeds[1]: found *all inside of what it stands for: it never ends'],
  [`${GOOD}? [1]\n: 2\n`, 's.yaml:1:1: found a key that is not a word'],
  // unknown keys
  [`${GOOD}capacity: [1]\n`, 's.yaml:5:1: capacity: found a key that is not known; did you mean capacities?'],
  [`${GOOD}routing: {predictor: 8}\n`, 's.yaml:5:11: routing.predictor: found a key that is not known; allowed: predictor_hidden, aux_loss_weight'],
  [`${GOOD}grids:\n  - seeds: [1]\n  - name: b\n`, expect.stringContaining('s.yaml:7:5: grids[1].name: found a key that is not known; allowed: flop_budgets, ')],
  [`${GOOD}__proto__: {}\n`, expect.stringContaining('s.yaml:5:1: __proto__: found a key that is not known')],
  // missing keys
  ['flop_budgets: [1]\ndata: {text: a, heldout_text: b}\n', `s.yaml:1:1: name: missing; needed: ${NAME}`],
  ['name: a\ndata: {text: a, heldout_text: b}\n', 's.yaml:1:1: flop_budgets: missing; needed: a list of numbers of FLOPs'],
  ['name: a\nflop_budgets: [1e9]\n', 's.yaml:1:1: data: missing; needed: where the tokens come from'],
  ['name: a\ndata: {text: a, heldout_text: b}\ngrids: [{flop_budgets: [1]}, {seeds: [1]}]\n', 's.yaml:3:30: grids[1].flop_budgets: missing; needed: a list of numbers of FLOPs, here or at the top level'],
  // wrong types
  [`${GOOD}seeds: ["1"]\n`, "s.yaml:5:9: seeds[0]: found the text '1', a number in quotes; allowed: a whole number of at least 0"],
  [`${GOOD}seeds: 1\n`, 's.yaml:5:8: seeds: found 1; allowed: a list of whole numbers'],
  [`${GOOD}seeds:\n`, 's.yaml:5:7: seeds: found nothing; allowed: a list of whole numbers'],
  [`${GOOD}seeds: []\n`, 's.yaml:5:8: seeds: found an empty list; allowed: a list of whole numbers that is not empty'],
  [`${GOOD}baseline: yes\n`, "s.yaml:5:11: baseline: found the text 'yes'; allowed: true or false"],
  [`${GOOD}training: 1e-3\n`, 's.yaml:5:11: training: found 1e-3; allowed: a mapping of learning_rate, weight_decay, gradient_clip, micro_batch_sequences, deterministic'],
  [`${GOOD}routers: [learned, lerned]\n`, "s.yaml:5:20: routers[1]: found the text 'lerned'; allowed: learned, random"],
  [`${GOOD}backend: gpu\n`, "s.yaml:5:10: backend: found the text 'gpu'; allowed: auto, cuda, tensorflow, wasm"],
  [`${GOOD}precision: fp16\n`, "s.yaml:5:12: precision: found the text 'fp16'; allowed: auto, bf16, fp32"],
  ['name: [a]\nflop_budgets: [1e9]\ndata: {text: a, heldout_text: b}\n', `s.yaml:1:7: name: found a list; allowed: ${NAME}`],
  ['name: ../a\nflop_budgets: [1e9]\ndata: {text: a, heldout_text: b}\n', `s.yaml:1:7: name: found the text '../a'; allowed: ${NAME}`],
  // out of range
  [`${GOOD}grids: [{capacities: [0, 1.01, .nan]}]\n`, ['0', '1.01', '.nan'].map( (found, i) => `s.yaml:5:${[23, 26, 32][i]}: grids[0].capacities[${i}]: found ${found}; allowed: ${CAPACITY}`, ) .join('\n')],
  ['name: a\nflop_budgets: [-6e18, 1e400]\ndata: {text: a, heldout_text: b}\n', 's.yaml:2:16: flop_budgets[0]: found -6e18; allowed: a number above 0\ns.yaml:2:23: flop_budgets[1]: found 1e400; allowed: a number above 0'],
  [`${GOOD}batch_sequences: 1.5\n`, 's.yaml:5:18: batch_sequences: found 1.5; allowed: a whole number from 1 to 1048576'],
  [`${GOOD}routing_frequencies: [0]\n`, 's.yaml:5:23: routing_frequencies[0]: found 0; allowed: a whole number of at least 1'],
  [`${GOOD}routing: {aux_loss_weight: -1}\n`, 's.yaml:5:28: routing.aux_loss_weight: found -1; allowed: a number of at least 0'],
  [`${GOOD}training: {learning_rate: [1e-3, 0]}\n`, 's.yaml:5:34: training.learning_rate[1]: found 0; allowed: auto or a number above 0'],
  [`${GOOD}training: {learning_rate: fast}\n`, "s.yaml:5:27: training.learning_rate: found the text 'fast'; allowed: auto, a number above 0, or a list of them"],
  // shapes
  [`${GOOD}model_sizes: 44M\n`, `s.yaml:5:14: model_sizes: found the text '44M'; allowed: auto, a list of sizes, each ${SIZE}, or {match_flops: a baseline}`],
  [`${GOOD}model_sizes: [44M, 45M]\n`, `s.yaml:5:20: model_sizes[1]: found the text '45M'; allowed: ${SIZE}`],
  [`${GOOD}model_sizes: [{d_model: 64}]\n`, 's.yaml:5:15: model_sizes[0].n_layers: missing; needed: a whole number from 1 to 4096'],
  [`${GOOD}model_sizes: [{d_model: 64, n_layers: 2, layers: 2}]\n`, 's.yaml:5:42: model_sizes[0].layers: found a key that is not known; did you mean n_layers?'],
  [`${GOOD}model_sizes: [{d_model: 64, n_layers: 2, n_heads: 3}]\n`, 's.yaml:5:51: model_sizes[0].n_heads: found 3; allowed: a number that divides d_model 64 into heads of an even size'],
  [`${GOOD}model_sizes: [{d_model: 6, n_layers: 2, n_heads: 2}]\n`, 's.yaml:5:50: model_sizes[0].n_heads: found 2; allowed: a number that divides d_model 6 into heads of an even size'],
  [`${GOOD}model_sizes: [{d_model: 63, n_layers: 2}]\n`, 's.yaml:5:25: model_sizes[0].d_model: found 63; allowed: an even number: rotary positions pair its halves'],
  // data
  [`${TOKENS}data: {text: a, train: b}\n`, 's.yaml:3:7: data: found both text and token files; allowed: either text and heldout_text, or train and heldout'],
  [`${TOKENS}data: {vocab_size: 256}\n`, 's.yaml:3:7: data: found neither text nor token files; allowed: either text and heldout_text, or train and heldout'],
  [`${TOKENS}data: {text: a}\n`, 's.yaml:3:7: data.heldout_text: missing; needed: a path or glob, or a list of them'],
  [`${TOKENS}data: {train: a, heldout: b}\n`, 's.yaml:3:7: data.vocab_size: missing; needed: the number of tokens that the tokenizer knows'],
  [`${TOKENS}data: {train: a, heldout: b, vocab_size: 9, token_bytes: 4}\n`, 's.yaml:3:58: data.token_bytes: found 4; allowed: 1 or 2'],
  [`${TOKENS}data: {text: [a, ''], heldout_text: b}\n`, "s.yaml:3:18: data.text[1]: found the text ''; allowed: a path or glob"],
  [`${TOKENS}data: {text: a, heldout_text: b, tokenizer: t.json}\n`, "s.yaml:3:45: data.tokenizer: found the text 't.json'; allowed: bytes: text files are read as bytes, others as token files"],
  [`${TOKENS}data: {text: a, heldout_text: b, vocab_size: 64}\n`, 's.yaml:3:46: data.vocab_size: found 64; allowed: at least 256 for bytes'],
  // nothing to train
  [`${TOKENS}baseline: false\ndata: {text: a, heldout_text: b}\n`, 's.yaml:1:1: capacities: found none, and baseline: false; needed: a capacity, or the baseline'],
  // several at once, in the order of the file
  [
    `${GOOD}model_sizes: {match_flops: 44}\n`,
    "s.yaml:5:28: model_sizes.match_flops: found 44; allowed: a size, or the folder of a finished sweep whose optimal baseline's FLOPs per pass are wanted",
  ],
  [`${GOOD}seed: [1]\ngates: [row]\n`, "s.yaml:5:1: seed: found a key that is not known; did you mean seeds?\ns.yaml:6:9: gates[0]: found the text 'row'; allowed: raw, sigmoid"],
])('%j: %s', (text, message) => {
  expect(messageFor(text)).toEqual(message);
});

it('refuses aliases that expand without end, at once', () => {
  const levels = Array.from(
    { length: 12 },
    (_, i) => `a${i + 1}: &a${i + 1} [${Array(9).fill(`*a${i}`).join(', ')}]`,
  );
  const started = performance.now();
  const message = messageFor(`${GOOD}a0: &a0 [1]\n${levels.join('\n')}\n`);
  expect(message).toMatch(/^s\.yaml:\d+:\d+: a\d+: found aliases that stand for more than 10000 values/);
  expect(performance.now() - started).toBeLessThan(2000);
});

it.each([
  ['[', 's.yaml:1:'],
  ['- ', 's.yaml:1:'],
  ['a: {', 's.yaml:1:'],
])('refuses a hundred thousand levels of %j', (level, start) => {
  expect(messageFor(level.repeat(100_000))).toMatch(new RegExp(`^${start}\\d+: yaml: `));
});
