/** Tokenizers from a tokenizer.json file, through Hugging Face's library: the ids equal those in Python. */
import { InputError, messageOf } from '../errors.js';
import { readForeignJson } from '../files/json.js';
import type { Cuts, Tokenizer } from './tokenizer.js';

/** Usual names of the end-of-text token, most specific first. */
const END_OF_TEXT = ['<|endoftext|>', '<|end_of_text|>', '</s>', '<eos>', '<|eos|>'];

/**
 * Opens a tokenizer.json. As in Python, a special token that is spelled out in a text is encoded as that token.
 *
 * @param path of a tokenizer.json
 * @throws InputError for a file that is missing or that the library rejects
 */
export async function jsonTokenizer(path: string): Promise<Tokenizer> {
  const { text, vocabSize, cuts } = readTokenizerJson(path);
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
    cuts,
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

function readTokenizerJson(path: string): { text: string; vocabSize: number; cuts: Cuts } {
  const { value, text } = readForeignJson(path, 'a tokenizer.json');
  const json = value as TokenizerJson | null;
  const vocab = json?.model?.vocab;
  if (typeof vocab !== 'object' || vocab === null) {
    throw new InputError(`${path}: not a tokenizer.json: it has no model.vocab${otherTokenizerFile(value)}`);
  }
  // Unigram models list their tokens, other models map them to ids.
  const ids = Array.isArray(vocab) ? [vocab.length - 1] : Object.values(vocab);
  const added = (json?.added_tokens ?? []).map(({ id }) => id);
  const cuts = json !== null && isCutAtLines(json) ? 'lines' : 'never';
  return { text, cuts, vocabSize: [...ids, ...added].reduce((most, id) => Math.max(most, id), -1) + 1 };
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
  added_tokens?: { id: number; content?: string; lstrip?: boolean; normalized?: boolean }[];
  normalizer?: Step | null;
  pre_tokenizer?: Step | null;
}

/** A normalizer or pre-tokenizer; `Sequence` has several. */
interface Step {
  type: string;
  normalizers?: Step[];
  pretokenizers?: Step[];
  pattern?: { Regex?: string; String?: string };
  behavior?: string;
  invert?: boolean;
  use_regex?: boolean;
  add_prefix_space?: boolean;
}

/** Normalizers that change no character by its neighbours, but for combining ones after it. */
const LOCAL_NORMALIZERS = ['NFC', 'NFD', 'NFKC', 'NFKD', 'Lowercase'];
const CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d";
const SPACES = String.raw`\s+(?!\S)|\s+`;
/** The patterns of words in GPT-2, GPT-4 and Llama 3, Qwen, and GPT-4o: none continues from a newline to a letter. */
const LINE_PATTERNS = new Set([
  String.raw`${CONTRACTIONS}| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|${SPACES}`,
  ...['{1,3}', ''].map(
    (digits) =>
      String.raw`(?i:${CONTRACTIONS})|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}${digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|${SPACES}`,
  ),
  String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:${CONTRACTIONS})?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:${CONTRACTIONS})?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|${SPACES}`,
]);

/** Whether the ids of a document are those of its lines, cut between a newline and a letter. */
function isCutAtLines({ added_tokens = [], normalizer, pre_tokenizer }: TokenizerJson): boolean {
  const stepsOf = (step: Step): Step[] =>
    (step.normalizers ?? step.pretokenizers ?? [step]).flatMap((each) =>
      each === step ? [each] : stepsOf(each),
    );
  const normalizers = normalizer == null ? [] : stepsOf(normalizer);
  const words = pre_tokenizer == null ? [] : stepsOf(pre_tokenizer);
  const divides = ({ type, use_regex = true, pattern, behavior, invert = false }: Step) =>
    (type === 'ByteLevel' && use_regex) ||
    (type === 'Split' && behavior === 'Isolated' && !invert && LINE_PATTERNS.has(pattern?.Regex ?? ''));
  const isLocal = (step: Step) =>
    divides(step) || step.type === 'Digits' || (step.type === 'ByteLevel' && step.use_regex === false);
  return (
    normalizers.every(({ type }) => LOCAL_NORMALIZERS.includes(type)) &&
    words.some(divides) &&
    words.every((step) => isLocal(step) && (step.type !== 'ByteLevel' || step.add_prefix_space === false)) &&
    // A token that takes the white space before it, or contains a newline, may lie across a cut.
    added_tokens.every(({ content = '', lstrip = false }) => !lstrip && !content.includes('\n'))
  );
}
