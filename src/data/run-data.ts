/** The data that a run is trained and evaluated on. */
import { InputError } from '../errors.js';
import { HeldoutWindows, TrainingBatches } from './batches.js';
import type { DataConfig, DataFile, DataFiles, DataRole } from './config.js';
import { contentHash } from './content-hash.js';
import { findFiles } from './files.js';
import type { HeldoutUse } from './heldout-check.js';
import { provenanceOf } from './inspect.js';
import { fileSize } from './segments.js';
import type { Tokenizer } from './tokenizer.js';
import { openTokenizer } from './tokenizers.js';
import { openTokens, patternsOf } from './tokens.js';

/** The part of a run's spec that determines its tokens and their order. */
interface DataSpec {
  data: DataConfig;
  model: { sequence_length: number };
  seed: number;
}

/** Opens the training data of a run, at its first batch. */
export async function openTrainingData(
  { data, model, seed }: DataSpec,
  baseDir: string,
): Promise<{ batches: TrainingBatches; close: () => void }> {
  const source = await openTokens(data, 'train', baseDir);
  return {
    batches: new TrainingBatches(source, model.sequence_length, seed),
    close: () => source.close(),
  };
}

/** How a run uses its held-out data. */
export function heldoutUse({
  model,
  evaluation,
}: {
  model: { sequence_length: number; vocab_size: number };
  evaluation: { sequences: number };
}): HeldoutUse {
  return {
    sequenceLength: model.sequence_length,
    sequences: evaluation.sequences,
    vocabSize: model.vocab_size,
  };
}

/** Opens the held-out windows of a run. */
export async function openHeldoutData(
  { data, model }: Omit<DataSpec, 'seed'>,
  baseDir: string,
): Promise<{ windows: HeldoutWindows; close: () => void }> {
  const source = await openTokens(data, 'heldout', baseDir);
  return { windows: new HeldoutWindows(source, model.sequence_length), close: () => source.close() };
}

/**
 * The token that ends a document of the held-out data: that of its tokenizer, or of prepare.json beside its files; null if
 * unknown.
 */
export async function heldoutEndOfText(data: DataConfig, baseDir: string): Promise<number | null> {
  const { tokenizer } = data;
  const known = await endOfTextOf(async () =>
    tokenizer === null ? null : openTokenizer(tokenizer, baseDir),
  );
  if (known !== null || 'text' in data) return known;
  const [first] = findFiles(patternsOf(data, 'heldout'), baseDir);
  return first === undefined ? null : provenanceOf(first.path).endOfText;
}

/** The end-of-text token of a tokenizer; null if there is none or it cannot be opened: evaluation does without it. */
export async function endOfTextOf(open: () => Promise<Tokenizer | null>): Promise<number | null> {
  try {
    return (await open())?.endOfText ?? null;
  } catch (error) {
    if (error instanceof InputError) return null;
    throw error;
  }
}

/** The current data files of a run; `train` or `heldout` is absent if a pattern of it matches no file. */
export function dataFiles(
  data: DataConfig,
  baseDir: string,
  roles: readonly DataRole[] = ['train', 'heldout'],
): Partial<DataFiles> {
  const found = roles.map((role) => [role, filesOf(data, role, baseDir)] as const);
  return Object.fromEntries(found.filter(([, files]) => files !== null));
}

/** The files by name; null if a pattern matches no file, or a file cannot be read. */
function filesOf(data: DataConfig, role: DataRole, baseDir: string): Record<string, DataFile> | null {
  try {
    const files = findFiles(patternsOf(data, role), baseDir);
    return Object.fromEntries(
      files.map(({ path, name }) => [name, { bytes: fileSize(path), hash: contentHash(path) }]),
    );
  } catch (error) {
    if (error instanceof InputError) return null;
    throw error;
  }
}
