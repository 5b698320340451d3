/** `mod init`: writes a commented sweep file that fits the data and this machine. */
import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { availableParallelism, freemem } from 'node:os';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { chooseBackend } from '../backends/choose.js';
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';
import { parseShape } from '../bench/shape.js';
import { measureStep } from '../bench/step.js';
import { loadSweepFile } from '../config/sweep-file.js';
import { findFiles } from '../data/files.js';
import { isTokenFile, provenanceOf } from '../data/inspect.js';
import { openTokens } from '../data/tokens.js';
import { InputError } from '../errors.js';
import { writeFileAtomic } from '../files/atomic.js';
import { bytes, count, counted, duration, rate } from '../format.js';
import { MOST_PASSES, type SuggestedSweep, suggestSweep } from '../plan/suggested-sweep.js';

export interface InitCommandOptions {
  /** FLOPs of a run; undefined: those that fit `hours`. */
  budget: number | undefined;
  hours: number;
  /** The sweep file; undefined: the data's name with .yaml, in the current folder. */
  out: string | undefined;
  /** Whether to replace the file if it is there. */
  force: boolean;
  backend: RequestedBackend;
  precision: RequestedPrecision;
}

/** Share of the text that is held out, from files of at most this share, in at most so many files. */
const HELDOUT_SHARE = 0.05;
const LARGEST_HELDOUT_FILE = 0.2;
const MOST_HELDOUT_FILES = 16;
/** Files that may be left out since they are no text, if these are not fewer than the others. */
const MOST_REFUSED = 20;
/** Held-out sequences below which the report decides nothing, of the shortest length that is suggested. */
const LEAST_HELDOUT_BYTES = 64 * 256;

/** The data as the sweep file names it. */
interface FoundData {
  /** The block `data` of the file, without its key. */
  yaml: string;
  tokens: number;
  heldoutTokens: number;
  vocabSize: number;
  /** `12.3 MB of text in 140 files, 8 of them held out (0.6 MB)` */
  summary: string;
}

/** @throws InputError for data that cannot be read or held out, and for a file that is there already */
export async function initCommand(
  data: string,
  options: InitCommandOptions,
  { out, err }: { out: (text: string) => void; err: (text: string) => void },
): Promise<void> {
  const folder = resolve(data);
  if (!existsSync(folder)) throw new InputError(`${data}: no such file or folder`);
  const name = nameOf(folder);
  const path = options.out ?? `${name}.yaml`;
  if (existsSync(path) && !options.force) {
    throw new InputError(
      `${path} is there already: give another name with --out, or replace it with --force`,
    );
  }
  const found = await findData(folder, data, dirname(resolve(path)));
  const backend = await chooseBackend(options.backend, options.precision);
  err(`measuring training steps with ${backend.name} on ${backend.device}`);
  const gpu = backend.memory();
  const reference = gpu === null ? 'd64l4t256b4' : 'd256l6t1024b32';
  const { model, batchSequences } = parseShape(`${reference}v${found.vocabSize}`);
  const { flopsPerSecond } = await measureStep(model, {
    batchSequences,
    warmup: 2,
    steps: 3,
    profile: false,
    recorder: backend.recorder,
    peak: null,
  });
  const jobs = gpu === null ? availableParallelism() : 1;
  const suggested = suggest(found, options, {
    flopsPerSecond,
    jobs,
    memoryBytes: gpu === null ? freemem() / jobs : gpu.total,
  });
  const machine = `${backend.name} on ${backend.device}, ${rate(flopsPerSecond)}FLOP/s${jobs > 1 ? ` × ${jobs} runs at a time` : ''}`;
  writeFileAtomic(path, sweepText(name, data, found, suggested, machine));
  loadSweepFile(path); // what is written is valid
  out(summaryText(path, found, suggested, machine));
}

function suggest(
  { tokens, heldoutTokens, vocabSize }: FoundData,
  { budget, hours }: InitCommandOptions,
  machine: { flopsPerSecond: number; jobs: number; memoryBytes: number },
): SuggestedSweep {
  try {
    return suggestSweep({
      tokens,
      heldoutTokens,
      vocabSize,
      budget: budget ?? null,
      hours,
      ...machine,
    });
  } catch (error) {
    if (error instanceof RangeError) throw new InputError(error.message);
    throw error;
  }
}

/** The name of the sweep: that of the data, in the characters that names may have. */
function nameOf(folder: string): string {
  const name = basename(folder)
    .replace(/\.[^.]*$/, '')
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[-.]+|-+$/g, '');
  return name === '' ? 'sweep' : name;
}

async function findData(folder: string, named: string, baseDir: string): Promise<FoundData> {
  if (statSync(folder).isFile()) {
    throw new InputError(
      isTokenFile(folder)
        ? `${named}: held-out tokens are needed too: give the folder of mod data prepare, which has both`
        : `${named}: held-out text must come from other documents: mod data prepare ${named} --out data, then mod init data`,
    );
  }
  const shard = join(folder, 'train-00000.bin');
  return provenanceOf(shard).vocabSize === null
    ? textData(folder, named, baseDir)
    : preparedData(folder, named, baseDir);
}

/** A folder of `mod data prepare`. */
async function preparedData(folder: string, named: string, baseDir: string): Promise<FoundData> {
  const { tokenizer, vocabSize } = provenanceOf(join(folder, 'train-00000.bin'));
  const vocab_size = vocabSize as number;
  const pattern = (split: string) => yamlPath(relative(baseDir, join(folder, `${split}-*.bin`)));
  const config = {
    train: [join(folder, 'train-*.bin')],
    heldout: [join(folder, 'heldout-*.bin')],
    vocab_size,
    tokenizer,
    token_bytes: 2 as const,
  };
  const [train, heldout] = [
    await openTokens(config, 'train', baseDir),
    await openTokens(config, 'heldout', baseDir),
  ];
  train.close();
  heldout.close();
  const kind = tokenizer === 'bytes' || tokenizer === 'gpt2' ? tokenizer : relative(baseDir, tokenizer ?? '');
  return {
    yaml: [
      `  train: ${pattern('train')}`,
      `  heldout: ${pattern('heldout')}`,
      `  vocab_size: ${vocab_size}`,
      ...(tokenizer === null ? [] : [`  tokenizer: ${yamlPath(kind)}`]),
    ].join('\n'),
    tokens: train.tokens,
    heldoutTokens: heldout.tokens,
    vocabSize: vocab_size,
    summary: `${count(train.tokens)} tokens of ${named}, ${count(heldout.tokens)} held out`,
  };
}

/** A folder of text files, some of which are held out, always the same ones. */
async function textData(folder: string, named: string, baseDir: string): Promise<FoundData> {
  const all = `${relative(baseDir, folder) || '.'}/**/*`;
  const { files, refused } = await textFiles(all, baseDir);
  const total = files.reduce((sum, { size }) => sum + size, 0);
  const rank = ({ path }: { path: string }) =>
    createHash('sha256').update(relative(folder, path)).digest('hex');
  const candidates = files
    .filter(({ size }) => size > 0 && size <= LARGEST_HELDOUT_FILE * total)
    .map((file) => ({ ...file, rank: rank(file) }))
    .sort((a, b) => (a.rank < b.rank ? -1 : 1));
  const heldout: typeof candidates = [];
  const enough = Math.max(HELDOUT_SHARE * total, LEAST_HELDOUT_BYTES);
  let heldoutBytes = 0;
  for (const file of candidates) {
    if (heldoutBytes >= enough || heldout.length === MOST_HELDOUT_FILES) break;
    heldout.push(file);
    heldoutBytes += file.size;
  }
  if (heldoutBytes < LEAST_HELDOUT_BYTES) {
    throw new InputError(
      `${named}: ${counted(files.length, 'file')} of ${bytes(total)}, of which too little can be held out as whole files: mod data prepare ${named} --out data holds out documents; then mod init data`,
    );
  }
  const names = heldout.map(({ name }) => name);
  const config = {
    text: [all, ...[...names, ...refused.map(({ name }) => name)].map((name) => `!${name}`)],
    heldout_text: names,
    tokenizer: 'bytes',
    vocab_size: 256,
  };
  const [train, held] = [
    await openTokens(config, 'train', baseDir),
    await openTokens(config, 'heldout', baseDir),
  ];
  train.close();
  held.close();
  const list = (paths: readonly string[]) => paths.map((path) => `\n    - ${yamlPath(path)}`).join('');
  return {
    yaml: [
      ...refused.map(({ name, reason }) => `  # left out: ${name}, ${reason.replaceAll('\n', ' ')}`),
      `  text:${list(config.text)}`,
      `  heldout_text: # ${bytes(held.tokens)}, in no other file`,
    ]
      .join('\n')
      .concat(list(names), '\n  tokenizer: bytes'),
    tokens: train.tokens,
    heldoutTokens: held.tokens,
    vocabSize: 256,
    summary: `${bytes(train.tokens)} of text in ${counted(files.length - names.length, 'file')} of ${named}; ${bytes(held.tokens)} in ${counted(names.length, 'file')} held out`,
  };
}

interface TextFile {
  path: string;
  name: string;
  size: number;
}

/** The files of a pattern, and those that are no text, with the reason. @throws InputError if most of the first ones are not */
async function textFiles(
  pattern: string,
  baseDir: string,
): Promise<{ files: TextFile[]; refused: { name: string; reason: string }[] }> {
  const files = findFiles([pattern], baseDir).map(({ path, name }) => ({
    path,
    name,
    size: statSync(path).size,
  }));
  const refused: { name: string; reason: string }[] = [];
  const rest: TextFile[] = [];
  for (const file of files) {
    const config = { text: [file.name], heldout_text: [], tokenizer: 'bytes', vocab_size: 256 };
    try {
      if (file.size > 0) (await openTokens(config, 'train', baseDir)).close();
      rest.push(file);
    } catch (error) {
      if (!(error instanceof InputError) || refused.length >= Math.max(MOST_REFUSED, rest.length))
        throw error;
      refused.push({ name: file.name, reason: error.message.replace(`${file.path}: `, '') });
    }
  }
  return { files: rest, refused };
}

/** A scalar of YAML: quoted, since names may contain any character. */
const yamlPath = (path: string): string => `'${path.replaceAll("'", "''")}'`;

function flops(value: number): string {
  return String(value.toExponential()).replace('e+', 'e');
}

function passesText([most, least]: SuggestedSweep['passes']): string {
  const text = (passes: number) => passes.toPrecision(2);
  return `${text(least)} to ${text(most)} passes over the data`;
}

function sweepText(
  name: string,
  data: string,
  found: FoundData,
  suggested: SuggestedSweep,
  machine: string,
): string {
  const { budget, sizes, controls, seeds, runs, hours, passes, limitedByData, tooLarge } = suggested;
  const list = (shapes: SuggestedSweep['sizes']) =>
    shapes
      .map(({ d_model, n_layers }) => `      - { d_model: ${d_model}, n_layers: ${n_layers} }`)
      .join('\n');
  const tokens = suggested.batchSequences * suggested.sequenceLength;
  const notes = [
    `${runs} runs of ${flops(budget)} FLOPs, about ${duration(hours * 3600)} (${machine}).`,
    `${found.summary}.`,
    `A run makes ${passesText(passes)}.`,
    ...(passes[0] > MOST_PASSES
      ? [`More than ${MOST_PASSES} passes teach little: use more text, or a smaller budget.`]
      : []),
    ...(limitedByData
      ? [`The data limits the budget: ${MOST_PASSES} passes at most. More text allows longer runs.`]
      : []),
    ...(tooLarge > 0
      ? [`${counted(tooLarge, 'larger size')} left out, which would not fit the memory.`]
      : []),
  ];
  return `# Made by mod init for ${data}. mod plan shows its runs, mod sweep trains them, mod report compares them.
#
${notes.map((note) => `# ${note}`).join('\n')}
name: ${name}
flop_budgets: [${flops(budget)}] # training FLOPs of a run; several make several isoFLOP curves
sequence_length: ${suggested.sequenceLength}
batch_sequences: ${suggested.batchSequences} # ${count(tokens)} tokens per step
evaluation: { sequences: ${suggested.evaluationSequences} } # held-out sequences; the report decides nothing below 64
checkpoint: { keep_final: best } # the best weights of each kind of model
data:
${found.yaml}

grids:
  # The dense model and Mixture-of-Depths with 12.5% of the tokens in every other block, at sizes around the expected optimum.
  # Three seeds at all sizes: verdicts need the noise between seeds.
  - capacities: [0.125]
    routing_frequencies: [2]
    seeds: [${seeds.join(', ')}]
    model_sizes:
${list(sizes)}
  # The control: tokens are selected at random.
  - baseline: false
    capacities: [0.125]
    routers: [random]
    model_sizes:
${list(controls)}
`;
}

function summaryText(path: string, found: FoundData, suggested: SuggestedSweep, machine: string): string {
  const { budget, runs, hours, sizes, seeds, passes, limitedByData } = suggested;
  const [first, last] = [sizes[0], sizes.at(-1)];
  return [
    `${path}: ${runs} runs of ${flops(budget)} FLOPs, about ${duration(hours * 3600)} in all`,
    `  data     ${found.summary}`,
    `  machine  ${machine}`,
    `  models   dense and MoD 12.5%, ${counted(sizes.length, 'size')} from ${first?.name} to ${last?.name}, ${counted(seeds.length, 'seed')}; random routing at ${suggested.controls.length}`,
    `  passes   ${passesText(passes)}${limitedByData ? '; the data, not the hours, limits the budget' : ''}`,
    '',
    `Next: mod plan ${path}`,
    `Then: mod sweep ${path}`,
  ].join('\n');
}
