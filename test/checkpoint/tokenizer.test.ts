/** The tokenizer of a checkpoint: a name in config.json, or a copy of the tokenizer.json. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startWasm } from '../../src/backends/wasm/start.js';
import {
  loadModel,
  modelFiles,
  openCheckpointTokenizer,
  readModelConfig,
} from '../../src/checkpoint/model.js';
import { writeFileAtomic } from '../../src/files/atomic.js';
import { initialValues } from '../../src/model/parameters.js';
import { Transformer } from '../../src/model/transformer.js';
import { modelConfig } from '../support/model-config.js';
import { TINY_VOCABULARY, writeTinyTokenizer } from '../support/tokenizer.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-checkpoint-'));
afterAll(() => rmSync(folder, { recursive: true }));
beforeAll(startWasm);

const CONFIG = modelConfig({
  vocab_size: TINY_VOCABULARY,
  d_model: 8,
  n_layers: 1,
  n_heads: 1,
  d_ff: 16,
  sequence_length: 4,
});

function saved(name: string, tokenizer: string | null, vocab_size = TINY_VOCABULARY): string {
  const path = join(folder, name);
  mkdirSync(path);
  const model = new Transformer({ ...CONFIG, vocab_size }, initialValues(0));
  for (const { name, parts } of modelFiles(model, tokenizer)) writeFileAtomic(join(path, name), ...parts);
  model.dispose();
  return path;
}

it('is a name for bytes, and absent if unknown', async () => {
  const bytes = saved('bytes', 'bytes');
  expect(JSON.parse(readFileSync(join(bytes, 'config.json'), 'utf8')).tokenizer).toBe('bytes');
  expect((await openCheckpointTokenizer(bytes))?.vocabSize).toBe(256);
  const none = saved('none', null);
  expect(await openCheckpointTokenizer(none)).toBeNull();
  expect(JSON.parse(readFileSync(join(none, 'config.json'), 'utf8'))).not.toHaveProperty('tokenizer');
});

it('is a copy of the tokenizer.json, independent of the original', async () => {
  const original = join(folder, 'any-name.json');
  writeTinyTokenizer(original);
  const path = saved('json', original);
  rmSync(original);
  const tokenizer = await openCheckpointTokenizer(path);
  expect(Array.from((await tokenizer?.encode(Buffer.from('then'))) ?? [])).toEqual([257, 110]);
  expect(readModelConfig(path)).toEqual(CONFIG);
  loadModel(path).dispose();
});

it('is rejected if it is missing or has tokens outside the model’s vocabulary', async () => {
  const small = saved('small', 'bytes', 255);
  await expect(openCheckpointTokenizer(small)).rejects.toThrow(
    'the tokenizer has 256 tokens; the vocabulary of the model has only 255',
  );
  const original = join(folder, 'lost.json');
  writeTinyTokenizer(original);
  const lost = saved('lost', original);
  rmSync(join(lost, 'tokenizer.json'));
  await expect(openCheckpointTokenizer(lost)).rejects.toThrow(
    `${join(lost, 'tokenizer.json')}: cannot be read`,
  );
});
