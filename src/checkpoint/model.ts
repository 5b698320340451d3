/** A model in a checkpoint: config.json and weights.safetensors, with PyTorch's names and [out, in] layout. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Tensor } from '@tensorflow/tfjs-core';
import { z } from 'zod';
import type { Tokenizer } from '../data/tokenizer.js';
import { BUILT_IN_TOKENIZERS, isBuiltIn, openTokenizer } from '../data/tokenizers.js';
import { InputError } from '../errors.js';
import { readForeignJson } from '../files/json.js';
import { jsonText } from '../files/numbers.js';
import { readSafetensors, type SafeTensor, safetensorsParts } from '../files/safetensors.js';
import { type ModelConfig, ROUTER_NAMES, routedBlocks } from '../model/config.js';
import type { TensorSpec } from '../model/parameters.js';
import { ROUTERS } from '../model/routers.js';
import { Transformer } from '../model/transformer.js';
import { GATE_NAMES } from '../ops/gates.js';
import type { Parameter } from '../ops/tape.js';
import { type CheckpointFile, checkFiles } from './folder.js';

export const CHECKPOINT_FORMAT = 'mod-checkpoint-1';

const positive = z.int().positive();

const modelSchema: z.ZodType<ModelConfig> = z.strictObject({
  vocab_size: positive,
  d_model: positive,
  n_layers: positive,
  n_heads: positive,
  d_ff: positive,
  sequence_length: positive,
  tie_embeddings: z.boolean(),
  residual_multiplier: z.number().positive().exactOptional(),
  logits_multiplier: z.number().positive().exactOptional(),
  attention_multiplier: z.number().positive().exactOptional(),
  routing: z
    .strictObject({
      frequency: positive,
      capacity: z.number().gt(0).max(1),
      router: z.enum(ROUTER_NAMES),
      gate: z.enum(GATE_NAMES),
      aux_loss_weight: z.number().nonnegative(),
      predictor_hidden: z.int().nonnegative(),
    })
    .nullable(),
  experts: z
    .strictObject({
      count: positive,
      no_ops: z.int().nonnegative(),
      capacity_factor: z.number().positive(),
      balance_loss_weight: z.number().nonnegative(),
      balance_no_ops: z.boolean(),
    })
    .nullable(),
});

const CONFIG_FILE = 'config.json';
const WEIGHTS_FILE = 'weights.safetensors';
/** The value of `tokenizer` for a tokenizer.json, and its file name, where other programs look for it. */
const TOKENIZER_FILE = 'tokenizer.json';

const checkpointSchema = z.looseObject({
  format: z.literal(CHECKPOINT_FORMAT),
  model: modelSchema,
  tokenizer: z.enum([...BUILT_IN_TOKENIZERS, TOKENIZER_FILE]).optional(),
});

/**
 * The files of a model with its current values: config.json, weights.safetensors and, if there is one, tokenizer.json.
 *
 * @param tokenizer of the model's tokens: `bytes`, `gpt2`, the path of a tokenizer.json, or null if unknown
 */
export function modelFiles(model: Transformer, tokenizer: string | null): CheckpointFile[] {
  const own = tokenizer === null || isBuiltIn(tokenizer) ? null : readFileSync(tokenizer);
  const config = {
    format: CHECKPOINT_FORMAT,
    model: model.config,
    ...(tokenizer === null ? {} : { tokenizer: own === null ? tokenizer : TOKENIZER_FILE }),
  };
  const parameters = model.parameters.flatMap((parameter) => tensorsOf(parameter, parameter.value));
  const tensors = [...parameters, ...thresholdTensors(model)];
  return [
    { name: CONFIG_FILE, parts: [Buffer.from(`${jsonText(config, 1)}\n`)] },
    { name: WEIGHTS_FILE, parts: safetensorsParts(tensors) },
    ...(own === null ? [] : [{ name: TOKENIZER_FILE, parts: [own] }]),
  ];
}

/**
 * The tokenizer of a checkpoint; null if it has none.
 *
 * @throws InputError if the tokenizer is missing or damaged, or has more tokens than the model's vocabulary
 */
export async function openCheckpointTokenizer(folder: string): Promise<Tokenizer | null> {
  const { model, tokenizer: name } = readConfig(folder);
  if (name === undefined) return null;
  if (name === TOKENIZER_FILE) checkFiles(folder, [name]);
  return checkedTokenizer(await openTokenizer(name, folder), join(folder, name), model);
}

/**
 * A tokenizer in place of the checkpoint's own.
 *
 * @param name as in a sweep file: `bytes`, `gpt2`, or the path of a tokenizer.json
 * @throws InputError as openCheckpointTokenizer does
 */
export async function openTokenizerFor(folder: string, name: string): Promise<Tokenizer> {
  return checkedTokenizer(await openTokenizer(name, '.'), name, readModelConfig(folder));
}

/** Returns the tokenizer; an error if it has more tokens than the model's vocabulary, for which the embedding has no rows. */
function checkedTokenizer(tokenizer: Tokenizer, name: string, { vocab_size }: ModelConfig): Tokenizer {
  if (tokenizer.vocabSize <= vocab_size) return tokenizer;
  throw new InputError(
    `${name}: the tokenizer has ${tokenizer.vocabSize} tokens; the vocabulary of the model has only ${vocab_size}`,
  );
}

/**
 * Loads the model of a checkpoint onto the active backend, after checking its files against the checkpoint's manifest.
 *
 * @throws InputError for a file that differs from the manifest, and as loadModel does
 */
export function loadCheckedModel(folder: string): Transformer {
  checkFiles(folder, [CONFIG_FILE, WEIGHTS_FILE]);
  return loadModel(folder);
}

/**
 * Loads the model of a checkpoint whose files have been checked onto the active backend.
 *
 * @throws InputError if config and weights do not match
 */
export function loadModel(folder: string): Transformer {
  const config = readModelConfig(folder);
  const path = join(folder, WEIGHTS_FILE);
  const { source, has, unused } = tensorSource(path);
  const model = new Transformer(config, source);
  const specs = thresholdSpecs(config);
  if (specs.some(({ name }) => has(name))) {
    model.thresholds = specs.map((spec) => source(spec, isThreshold)[0] as number);
  }
  const [extra] = unused();
  if (extra !== undefined) {
    model.dispose();
    throw new InputError(
      `${path}: the tensor ${extra} does not belong to the model that config.json describes`,
    );
  }
  return model;
}

/** Reads and validates the model's config of a checkpoint folder. */
export function readModelConfig(folder: string): ModelConfig {
  return readConfig(folder).model;
}

function readConfig(folder: string): z.output<typeof checkpointSchema> {
  const path = join(folder, CONFIG_FILE);
  const { value } = readForeignJson(path, "a checkpoint's config");
  const parsed = checkpointSchema.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new InputError(`${path}: ${issue?.path.join('.') || 'config'}: ${issue?.message}`);
  }
  const { model } = parsed.data;
  if (model.d_model % model.n_heads !== 0 || (model.d_model / model.n_heads) % 2 !== 0) {
    throw new InputError(
      `${path}: model.n_heads: ${model.n_heads} heads do not divide d_model ${model.d_model} into heads of an even size`,
    );
  }
  return parsed.data;
}

/** The thresholds of the routed blocks, which a checkpoint has all or none of. */
function thresholdSpecs(config: ModelConfig): Pick<TensorSpec, 'name' | 'shape'>[] {
  const { routing } = config;
  if (routing === null || !ROUTERS[routing.router].hasThreshold) return [];
  return routedBlocks(config).map((block) => ({ name: `blocks.${block}.router.threshold`, shape: [1] }));
}

/** A block that selects every token has the threshold -infinity. */
const isThreshold = (value: number) => Number.isFinite(value) || value === Number.NEGATIVE_INFINITY;

function thresholdTensors({ config, thresholds }: Transformer): SafeTensor[] {
  if (thresholds === null) return [];
  return thresholdSpecs(config).map(({ name, shape }, i) => ({
    name,
    dtype: 'F32',
    shape,
    data: Float32Array.of(thresholds[i] as number),
  }));
}

/** A tensor of a parameter's shape as the tensors of a checkpoint: q, k and v separately, each name after `prefix`. */
export function tensorsOf(parameter: Parameter, tensor: Tensor, prefix = ''): SafeTensor[] {
  const values = tensor.dataSync() as Float32Array;
  const parts = parameter.tensorNames.length;
  const shape = [tensor.shape[0] / parts, ...tensor.shape.slice(1)];
  return parameter.tensorNames.map((name, i) => ({
    name: `${prefix}${name}`,
    dtype: 'F32',
    shape,
    data: values.subarray((i * values.length) / parts, ((i + 1) * values.length) / parts),
  }));
}

/** Returns the values of the tensors that `tensorsOf` names; each must be valid, by default finite. */
export type StoredTensors = (
  spec: Pick<TensorSpec, 'name' | 'shape'>,
  isValid?: (value: number) => boolean,
) => Float32Array;

/** The tensors of a file by name, checked for type and shape when they are used, and the names of those not used. */
export function tensorSource(path: string): {
  source: StoredTensors;
  has(name: string): boolean;
  unused(): string[];
} {
  const tensors = readSafetensors(path);
  const used = new Set<string>();
  const source: StoredTensors = ({ name, shape }, isValid = Number.isFinite) => {
    const found = tensors.get(name);
    if (found === undefined) throw new InputError(`${path}: the tensor ${name} is missing`);
    if (found.dtype !== 'F32' || String(found.shape) !== String(shape)) {
      throw new InputError(
        `${path}: the tensor ${name} is ${found.dtype} [${found.shape}], config.json requires F32 [${shape}]`,
      );
    }
    const at = found.data.findIndex((value) => !isValid(Number(value)));
    if (at !== -1) {
      throw new InputError(
        `${path}: the tensor ${name} has the value ${found.data[at]} at index ${at}: not a finite number`,
      );
    }
    used.add(name);
    return found.data as Float32Array;
  };
  return {
    source,
    has: (name) => tensors.has(name),
    unused: () => [...tensors.keys()].filter((name) => !used.has(name)),
  };
}
