/** `mod generate`: continues prompts with a checkpoint, token by token with a KV cache. */

import { chooseBackend } from '../backends/choose.js';
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';
import { loadCheckedModel, openCheckpointTokenizer, openTokenizerFor } from '../checkpoint/model.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { InputError } from '../errors.js';
import { type Generated, generate } from '../eval/generate.js';
import { bestCheckpoint, checkpointAt } from '../eval/targets.js';
import { jsonText } from '../files/numbers.js';
import { bytes } from '../format.js';
import type { CausalMode, ModelConfig } from '../model/config.js';
import { causalModes, weightsModes, weightsProblem } from '../model/routing-modes.js';
import type { Transformer } from '../model/transformer.js';
import { mean } from '../statistics.js';

export interface GenerateCommandOptions {
  results: string;
  prompt: string[];
  tokens: number;
  temperature: number;
  topP: number;
  seed: number;
  routing?: CausalMode;
  /** Whether the path is a sweep, of which the best run is meant. */
  best: boolean;
  /** Instead of the checkpoint's own. */
  tokenizer?: string;
  json: boolean;
  backend: RequestedBackend;
  precision: RequestedPrecision;
}

/** The output of --json for one prompt. */
interface PrintedGeneration {
  prompt: string;
  text: string;
  tokens: number[];
  routing: string;
  /** For each token of prompt and text except the last, the share of routed blocks that select it; empty without such blocks. */
  participation: number[];
  prefill_ms: number;
  decode_ms: number;
  /** New tokens of all prompts per second. */
  tokens_per_s: number;
  /** Total of all prompts. */
  cache_bytes: number;
  cache_bytes_dense: number;
}

/** The outputs for the text and for the line of statistics. */
interface Streams {
  out: (text: string) => void;
  err: (text: string) => void;
}

/**
 * Streams the continuation of a single prompt; prints several continuations at the end, in order.
 *
 * @param path a checkpoint's folder, or a run, by folder or as SWEEP/RUN, for its last checkpoint; with `best` a sweep
 * @throws InputError for an invalid checkpoint, tokenizer or prompt
 */
export async function generateCommand(
  path: string,
  options: GenerateCommandOptions,
  { out, err }: Streams,
): Promise<void> {
  const best = options.best ? bestCheckpoint(path, options.results) : null;
  if (best !== null) err(`${best.runId}, the run with the lowest held-out loss`);
  const folder = best?.folder ?? checkpointAt(path, options.results);
  const tokenizer =
    options.tokenizer === undefined
      ? await openCheckpointTokenizer(folder)
      : await openTokenizerFor(folder, options.tokenizer);
  if (tokenizer === null) {
    throw new InputError(`${folder}: the checkpoint has no tokenizer: name one with --tokenizer`);
  }
  const { decodeLoops } = await chooseBackend(options.backend, options.precision);
  const model = loadCheckedModel(folder);
  try {
    const mode = modeOf(model, options, folder);
    const prompts = await Promise.all(options.prompt.map((prompt) => promptTokens(prompt, tokenizer)));
    checkLengths(prompts, options.tokens, model.config);
    const streams = prompts.length === 1 && !options.json;
    if (streams) out(options.prompt[0] as string);
    const printer = new TextStream(tokenizer);
    const generated = await generate(model, prompts, {
      ...options,
      mode,
      loops: decodeLoops,
      now: () => performance.now(),
      onToken: async (_, token) => {
        if (streams) out(await printer.next(token));
      },
    });
    const printed = await printable(generated, options, mode, tokenizer);
    if (options.json) out(`${jsonText(printed, 1)}\n`);
    else if (streams) out(`${await printer.rest()}\n`);
    else out(printed.map(({ prompt, text }) => `${prompt}${text}\n`).join('\n'));
    if (!options.json) err(summary(printed));
  } finally {
    model.dispose();
  }
}

/** The mode that is asked for, or the first causal one for which the model was trained. */
function modeOf(model: Transformer, { routing }: GenerateCommandOptions, folder: string): CausalMode {
  const causal = causalModes(model.config);
  const trained = weightsModes(model);
  const preferred = causal.find((mode) => trained.includes(mode)) ?? causal[0];
  if (preferred === undefined) {
    throw new InputError(
      `${folder}: cannot generate: ${model.config.routing?.router} routing has no causal mode`,
    );
  }
  const mode = routing ?? preferred;
  const problem = weightsProblem(model, mode);
  if (problem !== null) throw new InputError(`${folder}: cannot generate with --routing ${mode}: ${problem}`);
  return mode;
}

async function promptTokens(prompt: string, tokenizer: Tokenizer): Promise<Int32Array> {
  const tokens = Int32Array.from(await tokenizer.encode(Buffer.from(prompt)));
  if (tokens.length > 0) return tokens;
  if (tokenizer.endOfText === null)
    throw new InputError(
      '--prompt is empty, and the tokenizer has no end-of-text token to start from: write a prompt',
    );
  return Int32Array.of(tokenizer.endOfText);
}

function checkLengths(prompts: Int32Array[], tokens: number, { sequence_length }: ModelConfig): void {
  const longest = Math.max(...prompts.map(({ length }) => length));
  if (longest + tokens <= sequence_length) return;
  throw new InputError(
    `a prompt of ${longest} tokens plus --tokens ${tokens} exceeds the model's sequence length of ${sequence_length}: shorten the prompt or decrease --tokens`,
  );
}

/** Decodes tokens that arrive one at a time; the bytes of an incomplete character are held back. */
class TextStream {
  private readonly tokens: number[] = [];
  private printed = 0;

  constructor(private readonly tokenizer: Tokenizer) {}

  async next(token: number): Promise<string> {
    this.tokens.push(token);
    const text = await this.tokenizer.decode(this.tokens);
    return text.endsWith('\uFFFD') ? '' : this.unprinted(text);
  }

  /** The text that is still held back, at the end. */
  async rest(): Promise<string> {
    return this.unprinted(await this.tokenizer.decode(this.tokens));
  }

  private unprinted(text: string): string {
    const unprinted = text.slice(this.printed);
    this.printed = text.length;
    return unprinted;
  }
}

async function printable(
  { tokens, selected, prefillMs, decodeMs, cacheBytes }: Generated,
  options: GenerateCommandOptions,
  routing: string,
  tokenizer: Tokenizer,
): Promise<PrintedGeneration[]> {
  const all = tokens.reduce((sum, row) => sum + row.length, 0);
  const texts = await Promise.all(tokens.map((row) => tokenizer.decode(row)));
  return tokens.map((row, i) => ({
    prompt: options.prompt[i] as string,
    text: texts[i] as string,
    tokens: [...row],
    routing,
    participation: (selected[i] as boolean[][]).flatMap((blocks) =>
      blocks.length === 0 ? [] : [mean(blocks.map(Number))],
    ),
    prefill_ms: prefillMs,
    decode_ms: decodeMs,
    tokens_per_s: (all * 1000) / (prefillMs + decodeMs),
    cache_bytes: cacheBytes.used,
    cache_bytes_dense: cacheBytes.dense,
  }));
}

function summary(printed: PrintedGeneration[]): string {
  const [first] = printed as [PrintedGeneration];
  const shares = printed.flatMap(({ participation }) => participation);
  const { tokens_per_s, cache_bytes, cache_bytes_dense, routing } = first;
  const routed =
    shares.length === 0
      ? ''
      : `; ${routing} routing: ${mean(shares).toFixed(3)} of the routed blocks per token`;
  const share = (cache_bytes / cache_bytes_dense).toFixed(3);
  return `${tokens_per_s.toFixed(1)} tok/s${routed}; KV cache ${bytes(cache_bytes)}, ${share} of the dense model's`;
}
