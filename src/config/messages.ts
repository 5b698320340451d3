/** Turns schema issues into error messages: the key, what was found, what is allowed. */
import type { z } from 'zod';
import { keyText, type Path, type Problem, WrittenNumber, type YamlFile } from './document.js';
import { FOUND, KEY_PATHS } from './schema.js';

type Issue = z.core.$ZodIssue;

/** One problem per schema issue. */
export function problemsOf(issues: Issue[], file: YamlFile): Problem[] {
  return issues.flatMap((issue) => problemsOfIssue(issue, [], file));
}

function problemsOfIssue(issue: Issue, parent: Path, file: YamlFile): Problem[] {
  const path = writtenPath([...parent, ...(issue.path as Path)], file);
  if (issue.code === 'invalid_union') {
    const nearest = nearestBranch(issue.errors);
    if (nearest !== null) return nearest.flatMap((inner) => problemsOfIssue(inner, path, file));
  }
  if (issue.code === 'unrecognized_keys') {
    const known = issue.message.split(', ');
    return issue.keys.map((key) => unknownKey(key, known, path, file));
  }
  const foundText = issue.code === 'custom' ? issue.params?.[FOUND] : undefined;
  const value = valueAt(file.value, path);
  const key = path.length === 0 ? '' : `${keyText(path)}: `;
  if (value === undefined) {
    return [{ offset: file.valueOffset(path), text: `${key}missing; needed: ${issue.message}` }];
  }
  const found = typeof foundText === 'string' ? foundText : describe(value);
  return [{ offset: file.valueOffset(path), text: `${key}found ${found}; allowed: ${issue.message}` }];
}

/** The alternative that matches the value best, by the depth of its deepest issue; null if none matches any part. */
function nearestBranch(branches: Issue[][]): Issue[] | null {
  const depth = (issues: Issue[]) => Math.max(0, ...issues.map(depthOf));
  const best = [...branches].sort((a, b) => depth(b) - depth(a))[0];
  return best !== undefined && depth(best) > 0 ? best : null;
}

function depthOf(issue: Issue): number {
  // An empty list still matches a list, a mapping with an extra key still matches a mapping.
  if (issue.code === 'unrecognized_keys' || issue.code === 'too_small') return 1;
  return issue.path.length;
}

/** The path as it is in the file, where the single value of a list may stand without brackets. */
function writtenPath(path: Path, file: YamlFile): Path {
  const written: Path = [];
  for (const part of path) {
    if (part !== 0 || Array.isArray(valueAt(file.value, written))) written.push(part);
  }
  return written;
}

function unknownKey(key: string, known: string[], path: Path, file: YamlFile): Problem {
  const at = [...path, key];
  const suggestion = suggestedKey(key, known);
  const allowed = suggestion === null ? `allowed: ${known.join(', ')}` : `did you mean ${suggestion}?`;
  return { offset: file.keyOffset(at), text: `${keyText(at)}: unknown key; ${allowed}` };
}

/** Names of other programs for keys of a sweep file. */
const OTHER_NAMES: Record<string, readonly string[]> = {
  'training.learning_rate': ['lr', 'max_lr', 'peak_lr', 'base_lr', 'rate', 'learning_rates', 'rates'],
  'training.weight_decay': ['wd', 'decay', 'l2'],
  'training.gradient_clip': ['clip', 'grad_clip', 'gradient_clipping', 'max_grad_norm', 'clip_grad_norm'],
  'training.micro_batch_sequences': [
    'micro_batch',
    'micro_batch_size',
    'device_batch_size',
    'per_device_batch_size',
  ],
  batch_sequences: ['batch', 'batch_size', 'bs', 'global_batch_size', 'train_batch_size', 'total_batch_size'],
  sequence_length: [
    'seq_len',
    'seqlen',
    'seq_length',
    'context',
    'context_length',
    'block_size',
    'max_seq_len',
  ],
  flop_budgets: ['budget', 'budgets', 'flops', 'flop', 'flop_budget', 'compute'],
  model_sizes: [
    'model',
    'models',
    'size',
    'sizes',
    'shapes',
    'd_model',
    'n_layers',
    'n_layer',
    'n_heads',
    'n_head',
    'n_embd',
    'd_ff',
    'hidden_size',
    'dim',
    'depth',
    'width',
    'layers',
    'num_layers',
    'num_hidden_layers',
  ],
  capacities: ['capacity', 'c_factor', 'capacity_factors'],
  routing_frequencies: ['frequency', 'frequencies', 'routing_frequency'],
  'routing.predictor_hidden': ['predictor', 'predictor_size', 'predictor_dim'],
  'routing.aux_loss_weight': ['aux_loss', 'aux_weight', 'auxiliary_loss', 'aux_loss_coef'],
  'experts.count': ['num_experts', 'n_experts', 'expert_count'],
  'experts.balance_loss_weight': ['balance_loss', 'load_balancing_loss', 'router_aux_loss_coef'],
  seeds: ['seed', 'random_seed'],
  data: ['dataset', 'datasets', 'corpus'],
  'data.train': ['train_data', 'train_files', 'training_data', 'train_bin'],
  'data.heldout': ['val', 'valid', 'validation', 'eval_data', 'val_data', 'test', 'heldout_data', 'val_bin'],
  'data.text': ['train_text', 'text_files'],
  'data.heldout_text': ['val_text', 'validation_text', 'test_text'],
  'data.vocab_size': ['vocab', 'n_vocab', 'vocabulary', 'vocabulary_size', 'padded_vocab_size'],
  'evaluation.sequences': ['eval_sequences', 'eval_iters', 'eval_steps', 'eval_batches', 'val_sequences'],
  'evaluation.every_steps': ['eval_interval', 'eval_every', 'val_every', 'eval_freq'],
  'checkpoint.steps': ['save_every', 'save_steps', 'checkpoint_every', 'save_interval'],
  tie_embeddings: ['tie_word_embeddings', 'tied_embeddings', 'tie_weights', 'weight_tying'],
  precision: ['dtype', 'amp', 'bf16', 'fp16', 'mixed_precision'],
  backend: ['device', 'gpu', 'accelerator'],
  baseline: ['dense', 'baselines'],
};

/**
 * The key that an unknown one probably means: a similar one of the same mapping, the same or a similar one of another mapping,
 * or the key for which other programs use this name. Null if none is near.
 */
function suggestedKey(key: string, siblings: readonly string[]): string | null {
  const word = key.toLowerCase().replaceAll('-', '_');
  const last = (path: string) => path.slice(path.lastIndexOf('.') + 1);
  const shown = (path: string) => (siblings.includes(last(path)) ? last(path) : path);
  const exact = KEY_PATHS.find((path) => last(path) === word);
  const [named] = Object.entries(OTHER_NAMES).find(([, names]) => names.includes(word)) ?? [];
  const near =
    nearestWord(word, siblings) ?? siblings.find((sibling) => sibling.split('_').includes(word)) ?? null;
  const isTopLevel = siblings.includes('flop_budgets');
  // In a nested mapping its own keys come first: `layers` of a size is n_layers. At the top level short names are near too many.
  if (near !== null && (!isTopLevel || editDistance(word, near) <= 1)) return near;
  const other = exact ?? named;
  if (other !== undefined) return shown(other);
  if (near !== null) return near;
  const elsewhere = nearestWord(word, KEY_PATHS.map(last), 0.25);
  return elsewhere === null ? null : shown(KEY_PATHS.find((path) => last(path) === elsewhere) as string);
}

function valueAt(root: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (value, part) => (value as Record<string | number, unknown> | null | undefined)?.[part],
    root,
  );
}

const LONGEST = 40;

function describe(value: unknown): string {
  if (value === null) return 'nothing';
  if (value instanceof WrittenNumber) return shortened(value.text);
  if (typeof value === 'string') {
    const quoted = value.trim() !== '' && Number.isFinite(Number(value)) ? ', a number in quotes' : '';
    return `the text '${shortened(value)}'${quoted}`;
  }
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  return typeof value === 'object' ? 'a mapping' : String(value);
}

const shortened = (text: string) => (text.length <= LONGEST ? text : `${text.slice(0, LONGEST)}...`);

/** The candidate with the smallest edit distance, if that is a small share of the word's length. */
export function nearestWord(word: string, known: readonly string[], share = 0.4): string | null {
  const distances = known.map((candidate) => editDistance(word.toLowerCase(), candidate));
  const least = Math.min(...distances);
  return least <= Math.ceil(share * word.length) ? (known[distances.indexOf(least)] ?? null) : null;
}

/** Insertions, deletions and substitutions from a to b (Levenshtein 1966). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const above = row;
    row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (above[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min((above[j] as number) + 1, (row[j - 1] as number) + 1, substituted));
    }
  }
  return row[b.length] as number;
}
