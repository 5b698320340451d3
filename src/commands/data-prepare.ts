/** `mod data prepare`: converts text, JSON Lines and Parquet to token shards with a held-out split. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { basename, join, relative, resolve } from 'node:path';
import { escapePath } from 'tinyglobby';
import { stringify } from 'yaml';
import {
  donePart,
  type FormattedFile,
  type Part,
  type PartResult,
  type PrepareSettings,
  planParts,
  SPLITS,
  type Split,
  TOKENIZER_COPY,
} from '../data/prepare.js';
import { claimFolder, clearFolder, copyTokenizer, openInputs, SKIPPED_FILE } from '../data/prepare-folder.js';
import { prepareParts } from '../data/prepare-pool.js';
import { readProgress, silentProgress } from '../data/progress.js';
import { shardTokenBytes } from '../data/shards.js';
import { type TextFormat, textFormats } from '../data/text-format.js';
import { isBuiltIn, openTokenizer } from '../data/tokenizers.js';
import { InputError } from '../errors.js';
import { makeResultsFolder, writeFileAtomic } from '../files/atomic.js';
import { acquireLock } from '../files/lock.js';
import { jsonText } from '../files/numbers.js';
import { bytes, count } from '../format.js';

export interface DataPrepareOptions {
  out: string;
  tokenizer: string;
  /** Text of the token that ends a document; absent: the tokenizer's usual one. */
  endOfText?: string;
  field: string;
  /** May contain the escapes \n, \t and \0; absent: a text file is one document. */
  separator?: string;
  heldoutShare: number;
  seed: number;
  /** Bytes of input per part. A thread processes one part at a time; if the process is killed, the parts in progress are lost. */
  partBytes: number;
  /** Reads what the statistics of its bytes reject. */
  unchecked: boolean;
  /** Leaves out lines and rows without a text; otherwise they are errors. */
  skipBad: boolean;
  jobs: number;
  json: boolean;
  quiet: boolean;
}

export interface PrepareSummary {
  out: string;
  documents: { train: number; heldout: number };
  tokens: { train: number; heldout: number };
  text_bytes: number;
  /** Documents with bytes that are not UTF-8, which became U+FFFD. */
  invalid: number;
  /** Lines and rows without a text that were left out. */
  skipped: number;
  shards: number;
  parts_done_before: number;
  /** Bytes of text per second in this call, over all jobs; null if all parts were done before. */
  bytes_per_second: number | null;
}

/** Milliseconds between progress lines without a terminal. */
const PROGRESS_INTERVAL = 10_000;

/**
 * Tokenizes the files that the patterns match. After a kill, a repeated call resumes: finished parts are kept, and the
 * shards equal those of an uninterrupted call with any number of jobs.
 *
 * @throws InputError for invalid input, tokenizer or settings, or a folder that contains other tokens
 * @throws TryLaterError if another process prepares data in the same folder
 */
export async function dataPrepareCommand(
  patterns: string[],
  options: DataPrepareOptions,
  out: (text: string) => void,
): Promise<void> {
  const folder = resolve(options.out);
  const inputs = openInputs(patterns, folder);
  const settings = await settingsOf(options);
  const { unchecked } = options;
  const checks = { unchecked, option: '--unchecked', separator: settings.separator };
  const formats = await textFormats(inputs, checks);
  const formatted = inputs.map((input, i) => ({ ...input, format: formats[i] as TextFormat }));
  makeResultsFolder(folder, '--out');
  const lock = acquireLock(join(folder, '.lock'), 'mod data prepare');
  try {
    mkdirSync(join(folder, 'parts'), { recursive: true });
    claimFolder(folder, settings, inputs);
    if (!isBuiltIn(options.tokenizer)) copyTokenizer(options.tokenizer, folder);
    const summary = await prepareAll(folder, settings, formatted, options);
    const empty = SPLITS.find((split) => summary.tokens[split] === 0);
    if (empty !== undefined) {
      clearFolder(folder, options.tokenizer);
      throw emptySplitError(empty, summary, settings);
    }
    out(options.json ? jsonText(summary, 1) : report(summary, settings, options.out));
  } finally {
    lock.release();
  }
}

async function settingsOf(options: DataPrepareOptions): Promise<PrepareSettings> {
  const tokenizer = await openTokenizer(options.tokenizer, process.cwd());
  const named = options.endOfText;
  const end_of_text = named === undefined ? tokenizer.endOfText : tokenizer.idOf(named);
  if (end_of_text === null) {
    const why =
      named === undefined ? 'it has no end-of-text token with a usual name' : `it has no token '${named}'`;
    throw new InputError(`${options.tokenizer}: ${why}; name one with --end-of-text, such as '</s>'`);
  }
  return {
    format: 'mod-tokens-1',
    tokenizer: isBuiltIn(options.tokenizer) ? options.tokenizer : TOKENIZER_COPY,
    tokenizer_sha256: isBuiltIn(options.tokenizer)
      ? null
      : createHash('sha256').update(readFileSync(options.tokenizer)).digest('hex'),
    vocab_size: tokenizer.vocabSize,
    token_bytes: shardTokenBytes(tokenizer.vocabSize),
    end_of_text,
    field: options.field,
    separator: options.separator === undefined ? null : unescaped(options.separator),
    heldout_share: options.heldoutShare,
    seed: options.seed,
    part_bytes: options.partBytes,
    ...(options.unchecked ? { unchecked: true as const } : {}),
  };
}

/** Replaces the escapes of characters that are hard to type in a shell. */
function unescaped(text: string): string {
  const characters: Record<string, string> = { n: '\n', t: '\t', r: '\r', '0': '\0', '\\': '\\' };
  const separator = text.replace(/\\([ntr0\\])/g, (_, letter: string) => characters[letter] as string);
  if (separator === '')
    throw new InputError('--separator: expected the text between two documents, got an empty string');
  return separator;
}

async function prepareAll(
  folder: string,
  settings: PrepareSettings,
  files: readonly FormattedFile[],
  options: DataPrepareOptions,
): Promise<PrepareSummary> {
  const sizes = new Map(files.map(({ path, bytes }) => [path, bytes]));
  const parts = planParts(files, settings.part_bytes);
  const results = new Map<number, PartResult>();
  for (const part of parts) {
    const done = donePart(folder, part, settings);
    if (done !== null) results.set(part.index, done);
  }
  const doneBefore = results.size;
  const textBefore = sum([...results.values()].map(({ bytes }) => bytes));
  const left = parts.filter(({ index }) => !results.has(index));
  const done = sum(parts.filter(({ index }) => results.has(index)).map((part) => inputBytes(part, sizes)));
  const total = files.some(({ pipe }) => pipe !== undefined) ? null : sum(files.map(({ bytes }) => bytes));
  const progress = options.quiet
    ? silentProgress
    : readProgress({ total, done, out: process.stderr, now: Date.now, interval: PROGRESS_INTERVAL });
  const started = performance.now();
  try {
    await prepareParts(left, {
      settings,
      folder,
      jobs: options.jobs,
      skipBad: options.skipBad,
      onRead: progress.add,
      onDone: ({ index }, result) => results.set(index, result),
    });
  } finally {
    progress.close();
  }
  const problems = [...results.keys()]
    .sort((a, b) => a - b)
    .flatMap((index) => results.get(index)?.skipped?.problems ?? []);
  if (problems.length > 0)
    writeFileAtomic(join(folder, SKIPPED_FILE), Buffer.from(`${problems.join('\n')}\n`));
  const seconds = (performance.now() - started) / 1000;
  const all = [...results.values()];
  const text_bytes = sum(all.map(({ bytes }) => bytes));
  const bySplit = (of: 'documents' | 'tokens') => ({
    train: sum(all.map((result) => result[of].train)),
    heldout: sum(all.map((result) => result[of].heldout)),
  });
  return {
    out: folder,
    documents: bySplit('documents'),
    tokens: bySplit('tokens'),
    text_bytes,
    invalid: sum(all.map(({ invalid = 0 }) => invalid)),
    skipped: sum(all.map(({ skipped }) => skipped?.count ?? 0)),
    shards: sum(all.map(({ shards }) => shards.length)),
    parts_done_before: doneBefore,
    bytes_per_second: left.length === 0 ? null : (text_bytes - textBefore) / seconds,
  };
}

/** Bytes of input that a part reads, as stored on the disk. */
function inputBytes({ slices }: Part, sizes: ReadonlyMap<string, number>): number {
  return sum(slices.map(({ path, start, end }) => (end ?? (sizes.get(path) as number)) - start));
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

function report(summary: PrepareSummary, settings: PrepareSettings, out: string): string {
  const { documents, tokens, text_bytes, invalid, skipped, shards, bytes_per_second, parts_done_before } =
    summary;
  const folder = relative(process.cwd(), out) || '.';
  const glob = (split: Split) => join(escapePath(folder), `${split}-*.bin`);
  const { vocab_size } = settings;
  const tokenizer = isBuiltIn(settings.tokenizer) ? settings.tokenizer : join(folder, settings.tokenizer);
  const data = { train: glob('train'), heldout: glob('heldout'), vocab_size, tokenizer };
  const speed = bytes_per_second === null ? '' : ` at ${bytes(bytes_per_second)}/s`;
  const before = parts_done_before === 0 ? '' : ` (${count(parts_done_before)} parts done before)`;
  const line = (split: Split) =>
    `${split}: ${count(tokens[split])} tokens in ${documents[split] === 1 ? '1 document' : `${count(documents[split])} documents`}`;
  return [
    `${basename(out)}: ${bytes(text_bytes)} of text in ${count(shards)} shards${speed}${before}`,
    line('train'),
    line('heldout'),
    ...smallHeldoutWarning(summary, settings),
    ...(invalid === 0
      ? []
      : [`${count(invalid)} documents have bytes that are not UTF-8: they became U+FFFD`]),
    ...(skipped === 0
      ? []
      : [`skipped: ${count(skipped)} lines or rows without a text: ${join(folder, SKIPPED_FILE)}`]),
    '',
    `Next: mod init ${folder}`,
    'In a sweep file of your own in the current folder:',
    stringify({ data }, { lineWidth: 0 }).trimEnd(),
  ].join('\n');
}

/** Held-out losses vary with the documents: fewer than these are not a sample of a corpus. */
const ENOUGH_DOCUMENTS = 20;
/** Tokens of 64 sequences of 1024. */
const ENOUGH_TOKENS = 2 ** 16;

/** A warning if few documents or tokens are held out, with a share that holds out enough. */
function smallHeldoutWarning(
  { documents, tokens }: PrepareSummary,
  { heldout_share }: PrepareSettings,
): string[] {
  const scale = Math.max(ENOUGH_DOCUMENTS / documents.heldout, ENOUGH_TOKENS / tokens.heldout);
  if (scale <= 1) return [];
  const share = Number((heldout_share * scale).toPrecision(1));
  const remedy =
    share <= 0.2
      ? `--heldout-share ${share} and another --out hold out more`
      : 'prepare more text, or divide it into more documents with --separator';
  return [
    `warning: the held-out text is small, its losses depend on the documents that it happens to contain: ${remedy}`,
  ];
}

function emptySplitError(
  split: Split,
  { documents }: PrepareSummary,
  { heldout_share }: PrepareSettings,
): InputError {
  const all = documents.train + documents.heldout;
  const what = `no document was ${split === 'train' ? 'left for training' : 'held out'}`;
  const divide = 'split the text into documents, for example at empty lines with --separator "\\n\\n"';
  if (all === 1) return new InputError(`${what}: the text is a single document: ${divide}`);
  return new InputError(
    `${what}: ${count(all)} documents with a held-out share of ${heldout_share}: choose another --heldout-share${all < 100 ? `, or ${divide}` : ''}`,
  );
}
