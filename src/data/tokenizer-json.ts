/** Tokenizers from a tokenizer.json file, through Hugging Face's library: the ids equal those in Python. */
import { InputError, messageOf } from '../errors.js';
import { readForeignJson } from '../files/json.js';
import type { Tokenizer } from './tokenizer.js';

/** Usual names of the end-of-text token, most specific first. */
const END_OF_TEXT = ['<|endoftext|>', '<|end_of_text|>', '</s>', '<eos>', '<|eos|>'];

/**
 * Opens a tokenizer.json. As in Python, a special token that is spelled out in a text is encoded as that token.
 *
 * @param path of a tokenizer.json
 * @throws InputError for a file that is missing or that the library rejects
 */
export async function jsonTokenizer(path: string): Promise<Tokenizer> {
  const { text, vocabSize } = readTokenizerJson(path);
  const { Tokenizer } = await import('tokenizers');
  let tokenizer: InstanceType<typeof Tokenizer>;
  try {
    tokenizer = Tokenizer.fromString(text);
  } catch (error) {
    throw new InputError(`${path}: not a tokenizer.json: ${messageOf(error)}`);
  }
  // A file may enable truncation and padding; documents are encoded as a whole.
  tokenizer.disableTruncation();
  tokenizer.disablePadding();
  const idOf = (token: string) => tokenizer.tokenToId(token);
  const endOfText = END_OF_TEXT.map(idOf).find((id) => id !== null) ?? null;
  return {
    vocabSize,
    endOfText,
    encode: async (bytes) => {
      const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
      return (await tokenizer.encode(text, null, { addSpecialTokens: false })).getIds();
    },
    decode: (tokens) => tokenizer.decode(Array.from(tokens), false),
    idOf,
  };
}

/**
 * The vocabulary size of a tokenizer.json: its largest id plus one.
 *
 * @throws InputError for a file that is missing or not a tokenizer.json
 */
export function tokenizerJsonVocabSize(path: string): number {
  return readTokenizerJson(path).vocabSize;
}

function readTokenizerJson(path: string): { text: string; vocabSize: number } {
  const { value, text } = readForeignJson(path, 'a tokenizer.json');
  const json = value as TokenizerJson | null;
  const vocab = json?.model?.vocab;
  if (typeof vocab !== 'object' || vocab === null) {
    throw new InputError(`${path}: not a tokenizer.json: it has no model.vocab${otherTokenizerFile(value)}`);
  }
  // Unigram models list their tokens, other models map them to ids.
  const ids = Array.isArray(vocab) ? [vocab.length - 1] : Object.values(vocab);
  const added = (json?.added_tokens ?? []).map(({ id }) => id);
  return { text, vocabSize: [...ids, ...added].reduce((most, id) => Math.max(most, id), -1) + 1 };
}

/** Which other file of a tokenizer a JSON file is. */
function otherTokenizerFile(json: unknown): string {
  if (typeof json !== 'object' || json === null) return '';
  const values = Object.values(json);
  if (values.length >= 16 && values.every((id) => Number.isInteger(id))) {
    return ': it is a vocab.json, which has no merges; name the tokenizer.json of the same model';
  }
  const isConfig = 'tokenizer_class' in json || 'model_max_length' in json || 'bos_token' in json;
  return isConfig ? ': it is the configuration of a tokenizer; name the tokenizer.json beside it' : '';
}

interface TokenizerJson {
  model?: { vocab?: Record<string, number> | unknown[] };
  added_tokens?: { id: number }[];
}
