/** Checkpoints of a model: config.json and weights.safetensors, with PyTorch's names and [out, in] layout. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Tensor } from '@tensorflow/tfjs-core';
import { z } from 'zod';
import { BUILT_IN_TOKENIZERS, isBuiltIn, openTokenizer, type Tokenizer } from '../data/tokenizer.js';
import { InputError, messageOf } from '../errors.js';
import type { Parameter } from '../ops/tape.js';
import { writeFileAtomic } from '../results/atomic.js';
import { readSafetensors, type SafeTensor, writeSafetensors } from '../results/safetensors.js';
import type { ModelConfig } from './config.js';
import type { TensorSource } from './parameters.js';
import { Transformer } from './transformer.js';

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
  routing: z
    .strictObject({
      frequency: positive,
      capacity: z.number().gt(0).max(1),
      router: z.enum(['learned', 'random']),
      gate: z.enum(['raw', 'sigmoid']),
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

/** What `tokenizer` says of a tokenizer.json: that it lies beside config.json, where other programs look for it. */
const TOKENIZER_FILE = 'tokenizer.json';

const checkpointSchema = z.looseObject({
  format: z.literal(CHECKPOINT_FORMAT),
  model: modelSchema,
  tokenizer: z.enum([...BUILT_IN_TOKENIZERS, TOKENIZER_FILE]).optional(),
});

/**
 * Writes config.json, weights.safetensors and, where there is one, tokenizer.json into a folder that exists.
 *
 * @param tokenizer of the model's tokens: `bytes`, `gpt2`, the path of a tokenizer.json, or null where it is not known
 */
export function saveModel(folder: string, model: Transformer, tokenizer: string | null = null): void {
  const config = {
    format: CHECKPOINT_FORMAT,
    model: model.config,
    ...(tokenizer === null ? {} : { tokenizer: savedTokenizer(folder, tokenizer) }),
  };
  writeFileAtomic(join(folder, 'config.json'), `${JSON.stringify(config, null, 1)}\n`);
  const tensors = model.parameters.flatMap((parameter) => tensorsOf(parameter, parameter.value));
  writeSafetensors(join(folder, 'weights.safetensors'), tensors);
}

function savedTokenizer(folder: string, tokenizer: string): string {
  if (isBuiltIn(tokenizer)) return tokenizer;
  writeFileAtomic(join(folder, TOKENIZER_FILE), readFileSync(tokenizer));
  return TOKENIZER_FILE;
}

/**
 * The tokenizer of a checkpoint; null where it carries none.
 *
 * @throws InputError where the tokenizer is missing, or has tokens that the model does not know
 */
export async function openCheckpointTokenizer(folder: string): Promise<Tokenizer | null> {
  const { model, tokenizer: name } = readConfig(folder);
  if (name === undefined) return null;
  const tokenizer = await openTokenizer(name, folder);
  if (tokenizer.vocabSize <= model.vocab_size) return tokenizer;
  throw new InputError(
    `${join(folder, name)}: a tokenizer of ${tokenizer.vocabSize} tokens; the model has a vocabulary of ${model.vocab_size}`,
  );
}

/** The model of a checkpoint, on the active backend. InputError where config and weights do not fit each other. */
export function loadModel(folder: string): Transformer {
  const config = readModelConfig(folder);
  const path = join(folder, 'weights.safetensors');
  const { source, unused } = tensorSource(path);
  const model = new Transformer(config, source);
  const [extra] = unused();
  if (extra !== undefined) {
    model.dispose();
    throw new InputError(
      `${path}: the tensor ${extra} does not belong to the model that config.json describes`,
    );
  }
  return model;
}

/** The model's config of a checkpoint folder, checked. */
export function readModelConfig(folder: string): ModelConfig {
  return readConfig(folder).model;
}

function readConfig(folder: string): z.output<typeof checkpointSchema> {
  const path = join(folder, 'config.json');
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new InputError(`${path}: not a checkpoint's config: ${messageOf(error)}`);
  }
  const parsed = checkpointSchema.safeParse(json);
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

/** A parameter, or another tensor of its shape, by the names of a checkpoint: q, k and v apart. */
export function tensorsOf(parameter: Parameter, tensor: Tensor): SafeTensor[] {
  const values = tensor.dataSync() as Float32Array;
  const parts = parameter.tensorNames.length;
  const shape = [(tensor.shape[0] as number) / parts, ...tensor.shape.slice(1)];
  return parameter.tensorNames.map((name, i) => ({
    name,
    dtype: 'F32',
    shape,
    data: values.subarray((i * values.length) / parts, ((i + 1) * values.length) / parts),
  }));
}

function tensorSource(path: string): { source: TensorSource; unused(): string[] } {
  const tensors = readSafetensors(path);
  const used = new Set<string>();
  const source: TensorSource = ({ name, shape }) => {
    const found = tensors.get(name);
    if (found === undefined) throw new InputError(`${path}: the tensor ${name} is missing`);
    if (found.dtype !== 'F32' || String(found.shape) !== String(shape)) {
      throw new InputError(
        `${path}: the tensor ${name} is ${found.dtype} [${found.shape}], config.json asks for F32 [${shape}]`,
      );
    }
    const broken = found.data.findIndex((value) => !Number.isFinite(value));
    if (broken !== -1) {
      throw new InputError(
        `${path}: the tensor ${name} holds ${found.data[broken]} at ${broken}: no finite number`,
      );
    }
    used.add(name);
    return found.data as Float32Array;
  };
  return { source, unused: () => [...tensors.keys()].filter((name) => !used.has(name)) };
}
